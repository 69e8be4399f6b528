package runtime_test

import (
	"errors"
	"testing"
	"time"

	"github.com/forebayhub/forebay/runtime/worker"
)

// A source that does not run is behind, by as long as it has not run, and it is told since when: its lag used to be missing, and nothing told the first error of
// many from the last. That it runs for a moment between two errors makes no difference.
func TestASourceThatDoesNotRunIsBehind(t *testing.T) {
	src := &failing{numbers: numbers{topic: unique("n")}, err: errors.New("connection refused"), times: 2}
	w, _ := start(t, options(openLog(t), src, nil))
	var first time.Time
	eventually(t, 30*time.Second, "the first error", func() bool {
		s := w.Status()[0]
		first = s.Ailing
		return s.State == worker.Restarting && s.Timely() && !first.IsZero() && s.Behind > 0
	})
	eventually(t, 30*time.Second, "the second", func() bool {
		s := w.Status()[0]
		return s.Restarts == 2 && s.State == worker.Restarting && s.Behind >= 500*time.Millisecond // the pause before the second try
	})
	eventually(t, 30*time.Second, "it runs", func() bool { return state(w, 0) == worker.Running })
	if s := w.Status()[0]; !s.Ailing.Equal(first) || s.Behind != 0 {
		t.Errorf("ailing since %v instead of %v, and %v behind", s.Ailing, first, s.Behind)
	}
	if err := w.Restart("src"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 30*time.Second, "who restarts it has looked at it", func() bool { return w.Status()[0].Ailing.IsZero() })
}
