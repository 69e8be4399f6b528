package commitlog

import (
	"path/filepath"
	"testing"
)

// BenchmarkReopen opens 2 GB of log as after SIGKILL: nothing was closed.
func BenchmarkReopen(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "t-0")
	l := mustOpen(b, Options{Dir: dir, Durability: Relaxed, Syncer: NewSyncer(1, nil)})
	one := bigBatch(b, 16<<10)
	for l.Size() < 2<<30-64<<10 {
		if _, err := l.Append(one, 1, FromClient); err != nil {
			b.Fatal(err)
		}
	}
	l.syncer.forget(l)
	for b.Loop() {
		again := mustOpen(b, Options{Dir: dir, Durability: Relaxed, Syncer: NewSyncer(1, nil)})
		if again.EndOffset() != l.EndOffset() {
			b.Fatal(again.EndOffset(), l.EndOffset())
		}
		for _, s := range again.segs {
			s.drop()
		}
	}
	if err := l.Destroy(); err != nil {
		b.Fatal(err)
	}
}
