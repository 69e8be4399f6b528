package files

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/vfs"
)

// pausing is a Target that runs other once, when it is asked to list dir.
type pausing struct {
	Target
	dir   string
	other func()
}

func (p *pausing) ReadDir(ctx context.Context, dir string) ([]Entry, error) {
	if other := p.other; other != nil && dir == p.dir {
		p.other = nil
		other()
	}
	return p.Target.ReadDir(ctx, dir)
}

// A task sleeps while it recovers, and wakes when its successor has written files that are not committed yet: they are not a
// predecessor's leftovers.
func TestZombieWakesInItsRecovery(t *testing.T) {
	for _, when := range []string{"written", "prepared"} {
		t.Run(when, func(t *testing.T) {
			ctx := context.Background()
			local := NewLocal(vfs.NewMemory(), "/lake")
			target := &pausing{Target: local, dir: tmpDir}
			z := newLife(t, target, hourly(t))
			heir := newLife(t, local, hourly(t)) // a higher epoch
			var tokens []connectors.Token
			prepare := func() {
				var err error
				if tokens, err = heir.Prepare(ctx, []connectors.TopicPartition{tp}, connectors.CauseDue); err != nil {
					t.Fatal(err)
				}
			}
			target.other = func() {
				if _, err := heir.Recover(ctx, []connectors.Assignment{assignment(20)}); err != nil {
					t.Fatal(err)
				}
				if _, err := heir.Write(ctx, logRange(0, 20)); err != nil {
					t.Fatal(err)
				}
				if when == "prepared" {
					prepare()
				}
			}
			if _, err := z.Recover(ctx, []connectors.Assignment{assignment(20)}); err != nil {
				t.Logf("the zombie: %v", err)
			}
			if when == "written" {
				prepare()
			}
			if err := heir.Commit(ctx, tokens[0]); err != nil {
				t.Fatalf("the heir cannot commit any more: %v", err)
			}
			if err := errors.Join(z.Close(), heir.Close()); err != nil {
				t.Fatal(err)
			}
			check(t, local, 20)
		})
	}
}

// An empty folder among the commits is a removal that was cut off; the recovery comes to its end all the same.
func TestEmptyCommitFolder(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	local := NewLocal(vfs.NewMemory(), "/lake")
	if err := local.MkdirAll(ctx, commitName(partitionID(topicID, 0), 0)); err != nil {
		t.Fatal(err)
	}
	l := newLife(t, &bounded{Target: local, left: 1000}, hourly(t))
	if err := l.run(15); err != nil {
		t.Fatal(err)
	}
	check(t, local, 15)
}

// bounded is a Target that refuses after so many listings.
type bounded struct {
	Target
	left int
}

func (b *bounded) ReadDir(ctx context.Context, dir string) ([]Entry, error) {
	if b.left--; b.left < 0 {
		return nil, errors.New("it lists without an end")
	}
	return b.Target.ReadDir(ctx, dir)
}
