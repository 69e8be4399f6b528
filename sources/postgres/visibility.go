package postgres

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// snapshot is a pg_snapshot: which transactions a statement saw (PostgreSQL,
// chapter "Transaction ID and Snapshot Information Functions"). It lists
// top-level transactions only, and so does pgoutput's Begin.
type snapshot struct {
	xmin, xmax uint64   // all below xmin are done; none from xmax on had begun
	xip        []uint64 // in progress, ascending
}

// parseSnapshot reads xmin:xmax:xip,xip,… A slot's exported snapshot may have
// xmin one above xmax: xmin is asked first, as the server does.
func parseSnapshot(s string) (snapshot, error) {
	bad := fmt.Errorf("%q is not a pg_snapshot", s)
	p := strings.Split(s, ":")
	if len(p) != 3 {
		return snapshot{}, bad
	}
	var sn snapshot
	var err1, err2 error
	sn.xmin, err1 = strconv.ParseUint(p[0], 10, 64)
	sn.xmax, err2 = strconv.ParseUint(p[1], 10, 64)
	if err1 != nil || err2 != nil {
		return snapshot{}, bad
	}
	if p[2] != "" {
		for _, x := range strings.Split(p[2], ",") {
			n, err := strconv.ParseUint(x, 10, 64)
			if err != nil {
				return snapshot{}, bad
			}
			sn.xip = append(sn.xip, n)
		}
		slices.Sort(sn.xip)
	}
	return sn, nil
}

// saw says whether the effects of a committed transaction are in the snapshot.
// xid is the 32-bit number of the stream. Its epoch is the one that brings it
// nearest to the snapshot: the server stops before 2^31 transactions lie between
// the oldest that a slot can still send and the newest.
func (s *snapshot) saw(xid uint32) bool {
	x := s.xmax + uint64(int64(int32(xid-uint32(s.xmax))))
	return s.sawFull(x)
}

func (s *snapshot) sawFull(x uint64) bool {
	if x < s.xmin {
		return true
	}
	if x >= s.xmax {
		return false
	}
	_, running := slices.BinarySearch(s.xip, x)
	return !running
}

// run is a stretch of a table's rows that was read under one snapshot.
type run struct {
	snap snapshot
	upto []string // the key of its last row; nil: to the end of the table
}

// coverage is what the snapshot has read of a table: runs in key order. A
// streamed change is dropped when the snapshot that read its key saw its
// transaction: then the row was read as the change had left it.
type coverage struct {
	runs []run
	// horizon lies behind the commit of every transaction that a run saw. What
	// commits later needs no look.
	horizon LSN

	// The last transaction that was asked for, and what its runs say.
	xid     uint32
	known   bool
	verdict verdict
}

type verdict uint8

const (
	sawNone  verdict = iota // pass every change on
	sawAll                  // drop every change
	sawMixed                // it depends on the key
)

func (c *coverage) verdictOf(tx *transaction) verdict {
	if c == nil || tx.commit > c.horizon || len(c.runs) == 0 {
		return sawNone
	}
	if c.known && c.xid == tx.xid {
		return c.verdict
	}
	seen := 0
	for i := range c.runs {
		if c.runs[i].snap.saw(tx.xid) {
			seen++
		}
	}
	c.xid, c.known = tx.xid, true
	switch seen {
	case 0:
		c.verdict = sawNone
	case len(c.runs):
		c.verdict = sawAll
	default:
		c.verdict = sawMixed
	}
	return c.verdict
}

// seen decides for one key, given less(i): whether the key lies behind run i's
// last row.
func (c *coverage) seen(tx *transaction, behind func(upto []string) (bool, error)) (bool, error) {
	lo, hi := 0, len(c.runs)-1 // the last run goes to the end
	for lo < hi {
		mid := (lo + hi) / 2
		b, err := behind(c.runs[mid].upto)
		if err != nil {
			return false, err
		}
		if b {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return c.runs[lo].snap.saw(tx.xid), nil
}
