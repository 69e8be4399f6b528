package commitlog

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/forebayhub/forebay/core/record"
)

func expecting(t *testing.T, codec record.Codec, seq int32, expected ...string) []byte {
	t.Helper()
	w := record.NewBuilder()
	w.Attributes = record.Attributes(codec)
	w.ProducerID, w.ProducerEpoch, w.BaseSequence = 7, 0, seq
	for _, e := range expected {
		var headers []record.RecordHeader
		if e != "" {
			headers = append(headers, record.RecordHeader{Key: []byte(ExpectedOffset), Value: []byte(e)})
		}
		w.Append(1000, nil, []byte("v"), headers...)
	}
	b, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b)
}

// TestConditionalAppend: a record that names its offset gets it or is refused, with its whole batch, and the producer's sequence stays where it was.
func TestConditionalAppend(t *testing.T) {
	for codec := record.None; codec <= record.Zstd; codec++ {
		o, _ := memoryLog(t, Config{Conditional: true, Compression: Compression{Set: true, Compression: record.Compression{Codec: record.LZ4}}})
		l := mustOpen(t, o)
		put := func(seq int32, want error, bad []int32, expected ...string) {
			t.Helper()
			end := l.EndOffset()
			_, err := l.Append(expecting(t, codec, seq, expected...), 1, FromClient)
			var re *RecordErrors
			var at []int32
			if errors.As(err, &re) {
				for _, r := range re.Records {
					at = append(at, r.Index)
				}
			}
			if !errors.Is(err, want) || fmt.Sprint(at) != fmt.Sprint(bad) {
				t.Fatalf("%s: %v, want %v of %v", codec, err, want, bad)
			}
			if err != nil && l.EndOffset() != end {
				t.Fatal("a refused batch is in the log")
			}
		}
		put(0, nil, nil, "0", "", "2")
		put(3, ErrUnexpectedOffset, []int32{0}, "2")                       // stale
		put(3, ErrUnexpectedOffset, []int32{1, 2}, "3", "3", "6")          // the whole batch goes
		put(3, ErrUnexpectedOffset, []int32{0}, "9")                       // ahead
		put(3, ErrInvalidRecord, []int32{0, 2}, "three", "4", "-1")        // no offsets
		put(3, ErrInvalidRecord, []int32{0}, strings.Repeat("9", 30), "4") // too large
		put(3, nil, nil, "3")
		put(3, nil, nil, "3") // a retry of what is in the log is acknowledged
		put(4, nil, nil, "", "")
		l.SetConfig(Config{})
		put(6, nil, nil, "2") // without the topic's config it is a header like any other
	}
}
