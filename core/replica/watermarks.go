package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/forebayhub/forebay/internal/vfs"
)

// The high watermarks of partitions with several replicas are written down from time to time, so that a leader
// that starts alone does not have to begin at nothing (invariant 3). They are lower bounds: an old file, or none, is never wrong.
//
// A line for each partition: topic id, number, watermark; then one with the CRC-32C of all before.

// watermarkPause is between two files.
const watermarkPause = 5 * time.Second

// maxWatermarks bounds the file that is read.
const maxWatermarks = 64 << 20

const crcLine = "crc32c "

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encodeWatermarks(marks map[fetchKey]int64) []byte {
	lines := make([]string, 0, len(marks))
	for k, hw := range marks {
		lines = append(lines, fmt.Sprintf("%s %d %d\n", k.topic, k.number, hw))
	}
	slices.Sort(lines)
	var b bytes.Buffer
	for _, l := range lines {
		b.WriteString(l)
	}
	fmt.Fprintf(&b, "%s%08x\n", crcLine, crc32.Checksum(b.Bytes(), castagnoli))
	return b.Bytes()
}

var errWatermarks = errors.New("damaged file of high watermarks")

func decodeWatermarks(b []byte) (map[fetchKey]int64, error) {
	at := bytes.LastIndex(b, []byte(crcLine))
	if at < 0 || string(b[at:]) != fmt.Sprintf("%s%08x\n", crcLine, crc32.Checksum(b[:at], castagnoli)) {
		return nil, errWatermarks
	}
	marks := map[fetchKey]int64{}
	for line := range strings.Lines(string(b[:at])) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, errWatermarks
		}
		id, err := uuid.Parse(f[0])
		n, nerr := strconv.ParseInt(f[1], 10, 32)
		hw, herr := strconv.ParseInt(f[2], 10, 64)
		if errors.Join(err, nerr, herr) != nil || n < 0 || hw < 0 {
			return nil, errWatermarks
		}
		marks[fetchKey{id, int32(n)}] = hw
	}
	return marks, nil
}

func (s *Set) readWatermarks() {
	if s.o.Watermarks == "" {
		return
	}
	b, err := vfs.ReadFile(s.o.FS, s.o.Watermarks, maxWatermarks)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var marks map[fetchKey]int64
	if err == nil {
		marks, err = decodeWatermarks(b)
	}
	if err != nil {
		s.o.Logger.Warn("high watermarks are not known from before and are found anew", "file", s.o.Watermarks, "error", err)
		return
	}
	s.marks = marks
}

// checkpoint saves them until ctx ends.
func (s *Set) checkpoint(ctx context.Context) {
	tick := time.NewTicker(watermarkPause)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.saveWatermarks()
		case <-ctx.Done():
			return
		}
	}
}

// saveWatermarks writes them down, if any has changed. It is not synced: a damaged file counts for nothing.
func (s *Set) saveWatermarks() {
	if s.o.Watermarks == "" {
		return
	}
	s.saving.Lock()
	defer s.saving.Unlock()
	marks := map[fetchKey]int64{}
	for _, sl := range s.slots() {
		sl.mu.Lock()
		state, p := sl.state, sl.p.Load()
		sl.mu.Unlock()
		k := fetchKey{state.TopicID, state.Number}
		switch {
		case len(state.Replicas) < 2:
		case p != nil:
			marks[k] = p.HighWatermark()
		case s.marks[k] > 0:
			marks[k] = s.marks[k] // not opened since the start
		}
	}
	b := encodeWatermarks(marks)
	if len(marks) == 0 && s.saved == nil || bytes.Equal(b, s.saved) {
		return
	}
	if err := vfs.WriteFile(s.o.FS, s.o.Watermarks, b, false); err != nil {
		s.o.Logger.Debug("high watermarks could not be written", "file", s.o.Watermarks, "error", err)
		return
	}
	s.saved = b
}

// watermarkOf is the checkpointed watermark of a slot's partition; 0: none.
func (s *Set) watermarkOf(sl *slot) int64 {
	return s.marks[fetchKey{sl.state.TopicID, sl.state.Number}]
}
