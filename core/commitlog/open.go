package commitlog

import (
	"log/slog"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/forebayhub/forebay/internal/vfs"
)

// Open recovers a log. Nothing on disk is a new, empty log that starts at offset 0,
// and stays nothing until the first Append. See recover.go for what a crash may have left.
func Open(o Options) (*Log, error) {
	if o.FS == nil {
		o.FS = vfs.Disk{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Syncer == nil {
		o.Syncer = NewSyncer(1, nil)
	}
	if o.Files == nil {
		o.Files = NewFiles(0)
	}
	if o.ProducerExpiry == 0 {
		o.ProducerExpiry = 24 * time.Hour
	}
	o.Dir = path.Clean(o.Dir)
	if o.Name == "" {
		o.Name = path.Base(o.Dir)
	}
	l := &Log{
		o: o, fs: o.FS, dir: o.Dir, log: o.Logger, syncer: o.Syncer, files: o.Files,
		cfg: o.Config.withDefaults(), table: newTable(), cleanAt: o.Now(), pointEvery: pointEvery,
	}
	if o.BootID == "" {
		l.boot = bootID()
	} else {
		copy(l.boot[:], o.BootID)
	}
	if err := l.recover(); err != nil {
		for _, s := range l.segs {
			s.drop()
		}
		return nil, err
	}
	return l, nil
}

// listing is what lies in a log's folder.
type listing struct {
	segs  []int64 // base offsets, sorted
	snaps []int64 // offsets of snapshots, sorted
	swaps []int64 // manifests of compaction
	txns  []int64 // base offsets of segments with a transaction index, sorted
	loose []string
	// What is not there is not asked for: a start with thousands of logs would do little else.
	bounds, point, epochs bool
}

// list sorts the folder's files; ok is false when there is no folder.
func list(f vfs.FS, dir string) (v listing, ok bool, err error) {
	entries, err := f.ReadDir(dir)
	if notExist(err) {
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	have := map[int64]bool{}
	for _, e := range entries {
		if base, ok := parseName(e.Name(), logSuffix); ok {
			v.segs = append(v.segs, base)
			have[base] = true
		}
	}
	for _, e := range entries {
		name := e.Name()
		switch name {
		case boundsName:
			v.bounds = true
		case recoveryName:
			v.point = true
		case epochsName:
			v.epochs = true
		}
		if at, ok := parseName(name, snapSuffix); ok {
			v.snaps = append(v.snaps, at)
		}
		if base, ok := parseName(name, swapSuffix); ok {
			v.swaps = append(v.swaps, base)
		}
		if strings.HasSuffix(name, tmpSuffix) || strings.HasSuffix(name, cleanedSuffix) {
			v.loose = append(v.loose, name)
		}
		// Retention removes the log file last, so an index without one is only a remainder of nothing.
		for _, suffix := range []string{indexSuffix, timeSuffix, txnSuffix} {
			base, ok := parseName(name, suffix)
			switch {
			case ok && !have[base]:
				v.loose = append(v.loose, name)
			case ok && suffix == txnSuffix:
				v.txns = append(v.txns, base)
			}
		}
	}
	for _, l := range [][]int64{v.segs, v.snaps, v.swaps, v.txns} {
		slices.Sort(l)
	}
	return v, true, nil
}
