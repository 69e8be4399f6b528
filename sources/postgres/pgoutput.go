package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// pgoutput's messages at proto_version 1 (PostgreSQL, chapter "Logical
// Replication Message Formats"). Decoders borrow the message's bytes.

var errShort = errors.New("a pgoutput message is shorter than its format")

// begin is 'B': a transaction whose commit record starts at commit.
type begin struct {
	commit LSN
	micros int64 // since 2000-01-01
	xid    uint32
}

// commit is 'C'.
type commit struct {
	commit, end LSN
	micros      int64
}

// relation is 'R': what the changes that follow look like.
type relation struct {
	oid           uint32
	schema, table string
	identity      byte // d default, n nothing, f full, i index
	cols          []relationColumn
}

type relationColumn struct {
	name   string
	key    bool // part of the replica identity
	typ    uint32
	typmod int32
}

// change is 'I', 'U' or 'D'.
type change struct {
	kind     byte
	relation uint32
	oldKind  byte // 0: no old row; 'K': its key only; 'O': all of it
	old, new []datum
}

// datum is one column of a tuple.
type datum struct {
	kind byte // n null, u unchanged and not sent, t text, b binary
	text []byte
}

// truncate is 'T'.
type truncate struct {
	relations []uint32
}

// reader walks a message; after an overrun every read gives zero and err is set.
type reader struct {
	p   []byte
	err error
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.p) {
		r.p, r.err = nil, errShort
		return nil
	}
	b := r.p[:n:n]
	r.p = r.p[n:]
	return b
}

func (r *reader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) cstring() string {
	i := bytes.IndexByte(r.p, 0)
	if i < 0 {
		r.p, r.err = nil, errShort
		return ""
	}
	s := string(r.p[:i])
	r.p = r.p[i+1:]
	return s
}

func decodeBegin(p []byte) (begin, error) {
	r := reader{p: p}
	b := begin{commit: LSN(r.u64()), micros: int64(r.u64()), xid: r.u32()}
	return b, r.err
}

func decodeCommit(p []byte) (commit, error) {
	r := reader{p: p}
	r.u8() // flags, unused
	c := commit{commit: LSN(r.u64()), end: LSN(r.u64()), micros: int64(r.u64())}
	return c, r.err
}

func decodeRelation(p []byte) (relation, error) {
	r := reader{p: p}
	rel := relation{oid: r.u32(), schema: r.cstring(), table: r.cstring(), identity: r.u8()}
	if rel.schema == "" {
		rel.schema = "pg_catalog" // logicalrep_write_namespace sends it empty
	}
	n := int(r.u16())
	if n*10 > len(r.p) { // a column is ten bytes at least
		return rel, errShort
	}
	rel.cols = make([]relationColumn, n)
	for i := range rel.cols {
		flags := r.u8()
		rel.cols[i] = relationColumn{key: flags&1 != 0, name: r.cstring(), typ: r.u32(), typmod: int32(r.u32())}
	}
	return rel, r.err
}

// decodeOrigin reads 'O': the LSN at the origin and the origin's name.
func decodeOrigin(p []byte) (LSN, string, error) {
	r := reader{p: p}
	at := LSN(r.u64())
	name := r.cstring()
	return at, name, r.err
}

func decodeTruncate(p []byte, t *truncate) error {
	r := reader{p: p}
	n := int(r.u32())
	r.u8() // CASCADE, RESTART IDENTITY
	if n < 0 || n*4 > len(r.p) {
		return errShort
	}
	t.relations = t.relations[:0]
	for range n {
		t.relations = append(t.relations, r.u32())
	}
	return r.err
}

// decodeChange reads 'I', 'U' or 'D' into c, whose slices it reuses.
func decodeChange(kind byte, p []byte, c *change) error {
	r := reader{p: p}
	c.kind, c.relation, c.oldKind = kind, r.u32(), 0
	c.old, c.new = c.old[:0], c.new[:0]
	mark := r.u8()
	if mark == 'K' || mark == 'O' {
		c.oldKind = mark
		c.old = r.tuple(c.old)
		if kind == 'D' {
			return r.err
		}
		mark = r.u8()
	}
	if r.err == nil && (mark != 'N' || kind == 'D') {
		return fmt.Errorf("a pgoutput message %q has a tuple of the unknown kind %q", kind, mark)
	}
	c.new = r.tuple(c.new)
	return r.err
}

func (r *reader) tuple(t []datum) []datum {
	n := int(r.u16())
	if n > len(r.p) {
		r.p, r.err = nil, errShort
		return t
	}
	for range n {
		d := datum{kind: r.u8()}
		switch d.kind {
		case 't', 'b':
			d.text = r.take(int(int32(r.u32())))
		case 'n', 'u':
		default:
			if r.err == nil {
				r.err = fmt.Errorf("a pgoutput tuple has a column of the unknown kind %q", d.kind)
			}
		}
		if r.err != nil {
			return t
		}
		t = append(t, d)
	}
	return t
}
