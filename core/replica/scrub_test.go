package replica

import (
	"errors"
	"os"
	"path"
	"slices"
	"testing"
	"time"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/partition"
	"github.com/forebayhub/forebay/internal/vfs"
)

func atOnce(int, time.Duration) error { return nil }

// rot flips a byte of a segment while the log is open.
func (x *hurt) rot(n int) {
	x.t.Helper()
	f, err := x.fs.OpenFile(path.Join("/data/log/t-0", x.segments()[n]), os.O_RDWR, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	defer f.Close()
	b := []byte{0}
	if _, err = f.ReadAt(b, 70); err == nil {
		b[0] ^= 1
		_, err = f.WriteAt(b, 70)
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

// A scrub hands damage to the repair, as a read does, though nobody reads.
func TestScrubbedDamageIsRepaired(t *testing.T) {
	x := newHurt(t, vfs.NewMemory())
	x.lead(2, 1)
	x.Scrub(t.Context(), atOnce)
	if len(x.Damaged()) > 0 || x.scrubs.bytes.Load() == 0 || x.scrubs.ended.Load() != x.now.Unix() {
		t.Fatalf("a sound log: %v, %d bytes", x.Damaged(), x.scrubs.bytes.Load())
	}
	x.rot(1)
	before := x.segments()
	x.Scrub(t.Context(), atOnce)
	if err := x.Damaged()["t-0"]; !errors.Is(err, commitlog.ErrCorrupt) || x.scrubs.damaged.Load() != 1 {
		t.Fatalf("%v, %d segments", err, x.scrubs.damaged.Load())
	}
	for range 3 {
		x.tell()
		x.step(t.Context())
	}
	x.tell()
	if p := x.state(); !slices.Equal(x.segments(), before[:1]) || len(p.Offline) > 0 || len(x.Damaged()) > 0 || x.repairs.done.Load() != 1 {
		t.Errorf("left %v of %v, %+v, damaged %v", x.segments(), before, p, x.Damaged())
	}
}

// A lone node has nobody to copy from: it tells what is damaged.
func TestScrubbedDamageOfALoneNode(t *testing.T) {
	x := newHurt(t, vfs.NewMemory())
	x.following = Following{}
	x.open()
	x.start()
	p := x.state()
	x.apply(&metadata.ChangePartition{Topic: p.TopicID, Expected: p.PartitionEpoch, Leader: 1, ISR: []metadata.NodeID{1}})
	if _, err := x.Partition("t", 0); err != nil {
		t.Fatal(err)
	}
	x.rot(1)
	x.Scrub(t.Context(), atOnce)
	x.repairs.stepAll(t.Context())
	if err := x.Damaged()["t-0"]; !errors.Is(err, commitlog.ErrCorrupt) || len(x.Unavailable(x.image)) > 0 {
		t.Errorf("%v, %v", err, x.Unavailable(x.image))
	}
}

// A scrub opens no log, and who ends it ends it at once.
func TestScrubOpensNothing(t *testing.T) {
	x := newHurt(t, vfs.NewMemory())
	x.clean = true
	x.restart()
	x.Scrub(t.Context(), atOnce)
	open := 0
	x.Hosted(func(*partition.Partition) { open++ })
	if open > 0 || x.scrubs.bytes.Load() > 0 {
		t.Errorf("%d logs are open, %d bytes were read", open, x.scrubs.bytes.Load())
	}
	if _, err := x.Partition("t", 0); err != nil {
		t.Fatal(err)
	}
	x.scrubs.ended.Store(0)
	end := errors.New("the end")
	x.Scrub(t.Context(), func(int, time.Duration) error { return end })
	if x.scrubs.ended.Load() != 0 || x.scrubs.bytes.Load() > 0 {
		t.Errorf("it went on for %d bytes", x.scrubs.bytes.Load())
	}
}
