package server

import (
	"os"
	"sync"

	"github.com/forebayhub/forebay/internal/vfs"
)

// gatedFS is a memory disk whose syncs wait while it is shut.
type gatedFS struct {
	vfs.FS
	mu   sync.Mutex
	gate chan struct{} // closed: open
}

func newGatedFS() *gatedFS {
	g := &gatedFS{FS: vfs.NewMemory(), gate: make(chan struct{})}
	close(g.gate)
	return g
}

func (g *gatedFS) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gate = make(chan struct{})
}

func (g *gatedFS) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.gate)
}

func (g *gatedFS) OpenFile(name string, flag int, perm os.FileMode) (vfs.File, error) {
	f, err := g.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &gatedFile{f, g}, nil
}

type gatedFile struct {
	vfs.File
	g *gatedFS
}

func (f *gatedFile) Sync() error {
	f.g.mu.Lock()
	gate := f.g.gate
	f.g.mu.Unlock()
	<-gate
	return f.File.Sync()
}
