package commitlog

// offsetMap finds the newest offset of a key, by its hash: open addressing, 24 bytes for each of its slots, like Kafka's
// SkimpyOffsetMap. It doubles up to its bound and is then full at nine tenths.
type offsetMap struct {
	slots []keySlot
	n     int
	most  int // slots
}

type keySlot struct {
	hash   keyHash
	offset int64 // plus one; 0: free
}

// slotBytes is what one key takes.
const slotBytes = 24

// newOffsetMap makes one that takes at most memory bytes, and room for one key in any case.
func newOffsetMap(memory int64) *offsetMap {
	return &offsetMap{most: int(max(memory/slotBytes, 2))}
}

// put notes a later offset of a key; false: there is no room for another key.
func (m *offsetMap) put(k keyHash, offset int64) bool {
	if m.n >= len(m.slots)*9/10 && !m.grow() {
		// A key that is known needs no room.
		if i, ok := m.find(k); ok {
			m.slots[i].offset = offset + 1
			return true
		}
		return false
	}
	i, known := m.find(k)
	if !known {
		m.n++
	}
	m.slots[i] = keySlot{k, offset + 1}
	return true
}

// get is the newest offset of a key.
func (m *offsetMap) get(k keyHash) (offset int64, ok bool) {
	i, ok := m.find(k)
	if !ok {
		return 0, false
	}
	return m.slots[i].offset - 1, true
}

// find gives the key's slot, or the free one where it would go; ok says which. A map without slots gives -1.
func (m *offsetMap) find(k keyHash) (i int, ok bool) {
	if len(m.slots) == 0 {
		return -1, false
	}
	for i = int(k[0] % uint64(len(m.slots))); m.slots[i].offset != 0; i = (i + 1) % len(m.slots) {
		if m.slots[i].hash == k {
			return i, true
		}
	}
	return i, false
}

func (m *offsetMap) grow() bool {
	if len(m.slots) == m.most {
		return false
	}
	old := m.slots
	m.slots = make([]keySlot, min(max(2*len(old), 1024), m.most))
	for _, s := range old {
		if s.offset != 0 {
			i, _ := m.find(s.hash)
			m.slots[i] = s
		}
	}
	return m.n < len(m.slots)*9/10 || m.n == 0
}
