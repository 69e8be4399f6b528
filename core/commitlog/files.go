package commitlog

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
)

// Files bounds the segments whose files are open, over all logs of a node, so that descriptors follow the traffic and
// not the number of partitions. Beyond the bound the files of a segment that nobody has used of late are closed; its
// next use opens them again. A segment has one file open, or three while its indexes are read or written; who is at work on a file
// keeps it until he is done.
//
// The order is that of a clock (second chance), so a use costs a flag and only an opening takes the lock.
type Files struct {
	limit   int
	removed atomic.Int64 // files that Log.keep holds open

	mu         sync.Mutex
	ring       []*segment // nil: let go; oldest first
	held, hand int
}

// NewFiles makes a Files for that many segments. 0: 1,024.
func NewFiles(limit int) *Files {
	if limit <= 0 {
		limit = 1024
	}
	return &Files{limit: limit}
}

// Open is the number of segments whose files are open.
func (f *Files) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.held
}

// took notes that a segment has opened its files, and closes another's if there are too many. No lock of a segment is held.
func (f *Files) took(s *segment) {
	f.mu.Lock()
	if s.slot == 0 {
		f.ring = append(f.ring, s)
		s.slot = len(f.ring)
		f.held++
	}
	victims := f.shrinkLocked(f.limit, s)
	f.mu.Unlock()
	for _, v := range victims {
		v.letGo()
	}
}

// shrinkLocked takes segments out until most are held, as far as there are any; never keep. The caller lets go of them, unlocked.
func (f *Files) shrinkLocked(most int, keep *segment) (victims []*segment) {
	for f.held > most {
		v := f.nextLocked(keep)
		if v == nil {
			break
		}
		victims = append(victims, v)
	}
	return victims
}

// nextLocked takes the next segment out that was not used since the hand's last turn; never keep.
func (f *Files) nextLocked(keep *segment) *segment {
	for range 2*len(f.ring) + 1 {
		if f.hand >= len(f.ring) {
			f.packLocked()
		}
		v := f.ring[f.hand]
		f.hand++
		if v == nil || v == keep || v.recent.Swap(false) {
			continue
		}
		f.dropLocked(v)
		return v
	}
	return nil
}

// packLocked closes the gaps and puts the hand to the beginning.
func (f *Files) packLocked() {
	kept := f.ring[:0]
	for _, s := range f.ring {
		if s != nil {
			kept = append(kept, s)
			s.slot = len(kept)
		}
	}
	clear(f.ring[len(kept):])
	f.ring, f.hand = kept, 0
}

func (f *Files) dropLocked(s *segment) {
	if s.slot > 0 {
		f.ring[s.slot-1] = nil
		s.slot = 0
		f.held--
	}
}

// gave notes that a segment has closed its files.
func (f *Files) gave(s *segment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropLocked(s)
	if len(f.ring) > 64 && f.held < len(f.ring)/2 {
		f.packLocked()
	}
}

// spare closes half of what is open: the process has no descriptors left, whoever has them.
func (f *Files) spare() {
	f.mu.Lock()
	victims := f.shrinkLocked(f.held/2, nil)
	f.mu.Unlock()
	for _, v := range victims {
		v.letGo()
	}
}

// NoDescriptors tells an error that passes: the process, or the machine, has no file descriptor left.
func NoDescriptors(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
