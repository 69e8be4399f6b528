package vfs

import (
	"math/rand/v2"
)

// fileOp is a write or a truncation that is not synced.
type fileOp struct {
	off      int64
	data     []byte
	truncate bool
}

func (op fileOp) apply(data []byte) []byte {
	if op.truncate {
		return truncateTo(data, op.off)
	}
	return writeAt(data, op.data, op.off)
}

// dirOp is a change of a folder's entries that is not synced; a nil node removes. A rename
// within one folder is one dirOp: journals keep it whole.
type dirOp struct{ change map[string]*node }

// applyDirOps makes the first n changes durable.
func (n *node) applyDirOps(count int) {
	for _, op := range n.dirOps[:count] {
		for name, child := range op.change {
			if child == nil {
				delete(n.durable, name)
			} else {
				n.durable[name] = child
			}
		}
	}
	n.dirOps = n.dirOps[count:]
}

// NewCrash makes a Memory that knows what is durable: what File.Sync was called
// for, under names that SyncDir was called for. Crashed gives the disk after a power cut.
func NewCrash() *Memory {
	m := NewMemory()
	m.track = true
	return m
}

// Sector is the unit that a torn write keeps or loses as a whole.
const Sector = 512

// Crashed is a copy of the disk as a power cut now would leave it. The strict disk
// (torn nil) keeps nothing that was not synced. With a random source some of it survives: a prefix of each
// folder's changes, and of each file any sectors as they were after any write, or zeros. The receiver is unchanged and goes on.
func (m *Memory) Crashed(torn *rand.Rand) *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := NewCrash()
	c.capacity = m.capacity
	c.root = crashNode(m.root, torn, map[*node]*node{})
	c.used = c.root.size()
	return c
}

// Forget takes what was not synced in files for written, as Linux does once it has told of a failed fsync: it is read for as long as the page cache has it,
// no later Sync is about it, and the disk does not have it.
func (m *Memory) Forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	forgetNode(m.root)
}

func forgetNode(n *node) {
	n.pending = nil
	for _, child := range n.entries {
		forgetNode(child)
	}
}

func crashNode(n *node, torn *rand.Rand, seen map[*node]*node) *node {
	if c := seen[n]; c != nil {
		return c
	}
	c := &node{dir: n.dir, mode: n.mode, mod: n.mod}
	seen[n] = c
	if !n.dir {
		c.data = append([]byte(nil), n.synced...)
		if torn != nil {
			c.data = tear(c.data, n.pending, torn)
		}
		c.synced = append([]byte(nil), c.data...)
		return c
	}
	c.entries, c.durable = map[string]*node{}, map[string]*node{}
	names := map[string]*node{}
	for name, child := range n.durable {
		names[name] = child
	}
	if torn != nil {
		for _, op := range n.dirOps[:torn.IntN(len(n.dirOps)+1)] {
			for name, child := range op.change {
				if child == nil {
					delete(names, name)
				} else {
					names[name] = child
				}
			}
		}
	}
	// In the order of names, so that a seed gives the same disk again.
	for _, name := range sortedNames(names) {
		child := crashNode(names[name], torn, seen)
		c.entries[name], c.durable[name] = child, child
	}
	return c
}

// tear applies unsynced writes as a dying disk might.
func tear(data []byte, pending []fileOp, torn *rand.Rand) []byte {
	switch torn.IntN(3) {
	case 0: // nothing reached the disk
		return data
	case 1: // everything up to some write
		for _, op := range pending[:torn.IntN(len(pending)+1)] {
			data = op.apply(data)
		}
		return data
	}
	// Each sector as it was after some write, in no order: the kernel writes pages back as it likes.
	versions := [][]byte{data}
	for _, op := range pending {
		last := versions[len(versions)-1]
		versions = append(versions, op.apply(append([]byte(nil), last...)))
	}
	pick := func() []byte { return versions[torn.IntN(len(versions))] }
	out := make([]byte, len(pick()))
	for at := 0; at < len(out); at += Sector {
		if v := pick(); at < len(v) {
			copy(out[at:min(at+Sector, len(out))], v[at:])
		}
	}
	return out
}
