package broker

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/forebayhub/forebay/internal/vfs"
)

// opened is a data directory with its log directories, as a start opens them.
func opened(t *testing.T, fsys vfs.FS) *logDirs {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	d, err := openDataDir(fsys, "/data", 1, false, logger)
	if err != nil {
		t.Fatal(err)
	}
	l, err := openLogDirs(d, []string{"/a", "/b"}, logger, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(l.close(false), d.unlock()) })
	return l
}

// A power cut leaves the folders above a new directory, too.
func TestFoldersAboveANewDirectoryAreDurable(t *testing.T) {
	disk := vfs.NewCrash()
	logger := slog.New(slog.DiscardHandler)
	d, err := openDataDir(disk, "/var/lib/node/data", 1, false, logger)
	if err != nil {
		t.Fatal(err)
	}
	l, err := openLogDirs(d, []string{"/mnt/one/node/logs"}, logger, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(l.close(false), d.unlock()) })
	after := disk.Crashed(nil)
	for _, name := range []string{d.path(metaName), "/mnt/one/node/logs/" + propertiesName} {
		if _, err := after.Stat(name); err != nil {
			t.Error(err)
		}
	}
}

// cutAt opens the directories of a disk and gives the disks that a power cut at any sync of that would leave.
func cutAt(t *testing.T, disk *vfs.Memory, source *rand.Rand) (cuts []*vfs.Memory) {
	t.Helper()
	f := vfs.NewFault(disk)
	f.Hook(func(op vfs.Op, _ string) {
		if op == vfs.OpSync || op == vfs.OpSyncDir {
			cuts = append(cuts, disk.Crashed(nil), disk.Crashed(source))
		}
	})
	l := opened(t, f)
	if err := errors.Join(l.close(true), l.data.unlock()); err != nil {
		t.Fatal(err)
	}
	return append(cuts, disk.Crashed(nil), disk.Crashed(source))
}

// Whatever sync of a start a power cut comes at, while directories are made or a disk is replaced: the next start opens them, and
// knows each by the id that it had.
func TestPowerCutsWhileLogDirectoriesAreMade(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	source := rand.New(rand.NewPCG(seed, 1))
	first := cutAt(t, vfs.NewCrash(), source)
	if len(first) < 20 {
		t.Fatalf("only %d cuts", len(first))
	}
	for i, disk := range first {
		l := opened(t, disk)
		for _, d := range l.dirs {
			if d.Err != nil || d.ID == "" {
				t.Errorf("cut %d: %s: %v", i, d.Path, d.Err)
			}
		}
	}

	whole := first[len(first)-2].Crashed(nil)
	before := opened(t, whole.Crashed(nil)).dirs
	if err := errors.Join(whole.RemoveAll("/b"), whole.MkdirAll("/b", 0o755), vfs.WriteFile(whole, "/b/new-disk", nil, true), whole.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	for i, disk := range cutAt(t, whole, source) {
		l := opened(t, disk)
		a, b := l.dirs[0], l.dirs[1]
		if a.Err != nil || b.Err != nil || a.ID != before[0].ID || b.ID == before[1].ID || !l.replaced()[before[1].ID] {
			t.Errorf("cut %d: %s (%v) and %s (%v), replaced %v", i, a.ID, a.Err, b.ID, b.Err, l.replaced())
		}
	}
}
