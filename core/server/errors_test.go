package server

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/forebayhub/forebay/core/commitlog"
)

// A producer to a log that is damaged is told to look elsewhere and to try again, not that its batch is corrupt: that it takes for an end.
func TestCodeOfADamagedLog(t *testing.T) {
	damage := &commitlog.CorruptError{File: "t-0/00000000000000000000.log", Err: commitlog.ErrCorrupt}
	if code := codeOf(fmt.Errorf("%w: t-0: %w", commitlog.ErrFailed, damage)); code != kerr.KafkaStorageError.Code {
		t.Errorf("a log that does not open: %v", kerr.ErrorForCode(code))
	}
	if code := codeOf(damage); code != kerr.CorruptMessage.Code {
		t.Errorf("a batch that is read: %v", kerr.ErrorForCode(code))
	}
}
