package commitlog

import (
	"fmt"
	"sync"

	"github.com/forebayhub/forebay/core/record"
)

// Compression is a topic's compression.type: what the log makes of its producers' batches (KIP-390 for the levels).
type Compression struct {
	Set bool // false: producer, batches stay as they are
	record.Compression
}

var recodeBuffers = sync.Pool{New: func() any { return new([]byte) }}

func putRecoded(b *[]byte) {
	if cap(*b) <= 4<<20 {
		recodeBuffers.Put(b)
	}
}

// recodes tells whether any of the batches is compressed otherwise than the topic asks. A batch of the right codec stays as it is,
// whatever its level was, as on Kafka.
func (c *Config) recodes(heads []record.Header) bool {
	if !c.Compression.Set {
		return false
	}
	for i := range heads {
		if heads[i].Attributes.Codec() != c.Compression.Codec {
			return true
		}
	}
	return false
}

// recode appends to dst the batches of b as the topic's compression.type asks, and makes heads theirs.
func recode(dst, b []byte, heads []record.Header, cfg *Config) ([]byte, error) {
	for i := range heads {
		h := &heads[i]
		one := record.Batch(b[:h.Size()])
		b = b[h.Size():]
		at := len(dst)
		if h.Attributes.Codec() == cfg.Compression.Codec {
			dst = append(dst, one...)
			continue
		}
		var err error
		if dst, err = one.Recode(h, dst, cfg.Compression.Compression, int(cfg.MaxBatchBytes)); err != nil {
			return dst, fmt.Errorf("recompress: %w", unsound(err))
		}
		if *h, err = record.Parse(dst[at:]); err != nil {
			return dst, classify(err)
		}
	}
	return dst, nil
}
