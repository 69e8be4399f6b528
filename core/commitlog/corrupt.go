package commitlog

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/forebayhub/forebay/core/record"
)

// CorruptError names the place of a damaged byte (invariant 10). errors.Is finds ErrCorrupt in it.
type CorruptError struct {
	File string
	Pos  int64 // of the batch, in bytes from the file's start
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s: byte %d: %v", e.File, e.Pos, e.Err)
}

// Unwrap gives what is wrong there.
func (e *CorruptError) Unwrap() error { return e.Err }

// Is makes every CorruptError an ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// tell passes damage of the log's own files on; other errors are nobody else's affair.
func (l *Log) tell(err error) {
	if l.o.Damaged == nil || err == nil {
		return
	}
	if c := (*CorruptError)(nil); errors.As(err, &c) {
		l.o.Damaged(c)
	}
}

// noSpace tells whether err is a full disk or quota.
func noSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func notExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// classify turns package record's errors into this package's.
func classify(err error) error {
	switch {
	case errors.Is(err, record.ErrMagic):
		return fmt.Errorf("%w: %w", ErrOldMagic, err)
	default:
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
}
