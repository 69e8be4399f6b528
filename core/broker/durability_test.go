package broker

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"testing"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/internal/vfs"
)

// What a power cut may have taken is a matter of how the run before promised, and not of how this one does (invariant 4).
func TestDurabilityOfTheRunBefore(t *testing.T) {
	const safe, relaxed = commitlog.PowerSafe, commitlog.Relaxed
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	type run struct {
		durability commitlog.Durability
		boot       string
		lost       bool // what this start has told the cluster
	}
	for name, runs := range map[string][]run{
		"relaxed before":         {{relaxed, "a", false}, {safe, "b", true}, {safe, "c", false}},
		"power-safe before":      {{safe, "a", false}, {relaxed, "b", false}, {relaxed, "c", true}},
		"killed, then the power": {{relaxed, "a", false}, {safe, "a", false}, {safe, "b", false}},
	} {
		t.Run(name, func(t *testing.T) {
			disk := vfs.NewCrash()
			var epoch metadata.Epoch
			for i, r := range runs {
				if i > 0 { // one that comes to nothing tells nobody
					if _, err := Open(t.Context(), Options{DataDir: "/data", FS: disk, BootID: r.boot, KafkaAddr: busy.Addr().String()}); err == nil {
						t.Fatal("two listen at one address")
					}
				}
				n := start(t, Options{DataDir: "/data", FS: disk, Durability: r.durability, BootID: r.boot})
				if i == 0 {
					createTopic(t, n, "x", 1)
				}
				// A last leader that was not in sync any more is elected: one epoch more.
				p := n.quorum.Image().Partition("x", 0)
				if steps := p.LeaderEpoch - epoch; i > 0 && r.lost != (steps == 2) {
					t.Errorf("run %d, %v after %v: %d epochs", i, r.durability, runs[i-1].durability, steps)
				}
				epoch = p.LeaderEpoch
				produce(t, n.client(t), "x", i, i+1)
				after := disk.Crashed(nil)
				n.end(t)
				if i+1 < len(runs) && r.boot != runs[i+1].boot {
					disk = after
				} else if err := errors.Join(disk.Remove("/data/clean-shutdown"), disk.SyncDir("/data")); err != nil { // as of a process that was killed
					t.Fatal(err)
				}
			}
		})
	}
}

// What a relaxed run has left in a log that the power-safe start after it could not open is no more on the disk than before.
func TestDurabilityOfALogThatIsNotOpened(t *testing.T) {
	disk := vfs.NewCrash()
	f := vfs.NewFault(disk)
	o := Options{DataDir: "/data", FS: f, Durability: commitlog.Relaxed, BootID: "a"}
	n := start(t, o)
	createTopic(t, n, "x", 1)
	produce(t, n.client(t), "x", 0, 1)
	n.end(t)
	if err := errors.Join(disk.Remove("/data/clean-shutdown"), disk.SyncDir("/data")); err != nil { // as of a process that was killed
		t.Fatal(err)
	}
	f.Inject(vfs.Rule{Op: vfs.OpReadDir, Path: "/log/x-0", Err: syscall.EIO})
	o.Durability = commitlog.PowerSafe
	n = start(t, o)
	epoch := n.quorum.Image().Partition("x", 0).LeaderEpoch
	n.end(t)
	n = start(t, Options{DataDir: "/data", FS: disk.Crashed(nil), BootID: "b"})
	if more := n.quorum.Image().Partition("x", 0).LeaderEpoch - epoch; more != 2 { // one for an election of a last leader that was not in sync any more
		t.Errorf("%d epochs, want 2", more)
	}
	n.end(t)
}

// What a directory had when the first start began that was not registered stands until one is.
// A node of several starts on a full disk, and on one whose quota is used up.
func TestJoiningWithoutRoom(t *testing.T) {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		f := vfs.NewFault(vfs.NewMemory())
		logger := slog.New(slog.DiscardHandler)
		d, err := openDataDir(f, "/data", 1, true, logger)
		if err == nil {
			err = errors.Join(d.joined(), d.unlock())
		}
		if err != nil {
			t.Fatal(err)
		}
		if d, err = openDataDir(f, "/data", 1, true, logger); err != nil {
			t.Fatal(err)
		}
		f.Inject(vfs.Rule{Path: metaName + ".new", Err: full})
		b := &Broker{dir: d, o: Options{Logger: logger}}
		if err := b.join(70); err != nil || *d.meta.Joining != (joining{Remembered: 70}) {
			t.Errorf("%v: %v, %+v", full, err, d.meta.Joining)
		}
	}
}

func TestJoining(t *testing.T) {
	disk := vfs.NewCrash()
	open := func() *dataDir {
		t.Helper()
		disk = disk.Crashed(nil)
		d, err := openDataDir(disk, "/data", 1, true, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	joins := func(remembered uint64) joining {
		t.Helper()
		d := open()
		if err := d.join(remembered); err != nil {
			t.Fatal(err)
		}
		return *d.meta.Joining
	}
	registered := func() {
		t.Helper()
		if err := open().joined(); err != nil {
			t.Fatal(err)
		}
	}
	open()
	joins(0)
	if j := joins(70); j != (joining{Fresh: true}) || open().meta.Format != newFormat {
		t.Errorf("a new directory after two starts: %+v", j)
	}
	registered()
	if m := open().meta; m.Joining != nil || m.Format != metaFormat {
		t.Errorf("registered: %+v", m)
	}
	joins(100)
	if j := joins(200); j != (joining{Remembered: 100}) || !j.older(&metadata.Node{Epoch: 101}) || j.older(&metadata.Node{Epoch: 100}) {
		t.Errorf("after two starts: %+v", j)
	}
	if j := joins(50); j != (joining{Remembered: 50}) {
		t.Errorf("put back from an older copy: %+v", j)
	}
}
