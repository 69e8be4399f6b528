package files

import (
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// codec is a stream compression of text and JSON files.
type codec struct {
	suffix string
	writer func(io.Writer) (io.WriteCloser, error) // nil: none
	reader func(io.Reader) (io.ReadCloser, error)
}

// zstdWindow keeps an encoder's memory near a megabyte; gain beyond it is a few per cent on log lines.
const zstdWindow = 1 << 20

func codecOf(name string) (codec, error) {
	switch name {
	case "", "auto", "none":
		return codec{}, nil
	case "gzip":
		return codec{suffix: ".gz",
			writer: func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestSpeed) },
			reader: func(r io.Reader) (io.ReadCloser, error) { return gzip.NewReader(r) },
		}, nil
	case "zstd":
		return codec{suffix: ".zst",
			writer: func(w io.Writer) (io.WriteCloser, error) {
				return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(zstdWindow), zstd.WithLowerEncoderMem(true))
			},
			reader: func(r io.Reader) (io.ReadCloser, error) {
				d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(8<<20))
				if err != nil {
					return nil, err
				}
				return d.IOReadCloser(), nil
			},
		}, nil
	}
	return codec{}, fmt.Errorf("compression: %s is not made for json and text files; use gzip, zstd or none", name)
}
