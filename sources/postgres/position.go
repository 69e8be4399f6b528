package postgres

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

// The positions of the source's one split. Each is a JSON object with a version.
const (
	slotKey     connectors.PositionKey = "slot"   // which server and slot the others belong to
	streamKey   connectors.PositionKey = "stream" // where the change stream stands
	tablePrefix                        = "table:" // table:<schema>.<table>: how far its snapshot is
)

func tableKey(n tableName) connectors.PositionKey {
	return connectors.PositionKey(tablePrefix + n.String())
}

// slotPosition ties positions to a server: a slot's LSNs mean nothing elsewhere.
type slotPosition struct {
	V      int    `json:"v"`
	System string `json:"system"` // system identifier of the cluster
	Slot   string `json:"slot"`
	// Timeline is the one that the stream was last on; 0, from an earlier version: unknown.
	Timeline uint32  `json:"timeline,omitempty"`
	From     LSNText `json:"from"`           // the slot's consistent point
	Base     string  `json:"base,omitempty"` // pg_snapshot of what commits before it
	// Publication is the oid of the one that the stream was last sent by; 0 like Timeline's.
	Publication uint32 `json:"publication,omitempty"`
	Made        bool   `json:"made,omitempty"` // by the source, which may drop it
	Over        bool   `json:"over,omitempty"` // snapshot: initial_only has all, the slot is not needed any more
}

// streamPosition says that every transaction that commits before LSN is in the
// log, and the first N changes of the one whose commit record starts at Tx.
type streamPosition struct {
	V    int     `json:"v"`
	LSN  LSNText `json:"lsn"`
	Last LSNText `json:"last,omitempty"` // end of the last transaction with changes, for source.sequence
	Tx   LSNText `json:"tx,omitempty"`
	N    int64   `json:"n,omitempty"`
}

// appendStream writes a streamPosition; it is written for every transaction.
func appendStream(dst []byte, p streamPosition) []byte {
	dst = append(dst, `{"v":1,"lsn":"`...)
	dst = LSN(p.LSN).append(dst)
	if p.Last != 0 {
		dst = append(dst, `","last":"`...)
		dst = LSN(p.Last).append(dst)
	}
	if p.Tx != 0 {
		dst = append(dst, `","tx":"`...)
		dst = LSN(p.Tx).append(dst)
		dst = append(dst, `","n":`...)
		return append(appendInt(dst, p.N), '}')
	}
	return append(dst, `"}`...)
}

// The states of a table's snapshot.
const (
	stateCopying = cdc.StateCopying
	stateCopied  = "copied" // all rows are in the log; the stream has yet to pass the horizon
	stateDone    = "done"
	stateLeft    = "left" // the config does not name it any more: a return needs a new snapshot
)

// tablePosition is a table's snapshot. Done, it only says of which table.
type tablePosition struct {
	V     int    `json:"v"`
	State string `json:"state"`
	Gen   int    `json:"gen,omitempty"`   // how often the snapshot was begun anew
	Stale bool   `json:"stale,omitempty"` // the topic has an older state, which is to be taken back first
	Rows  int64  `json:"rows,omitempty"`  // of this generation
	Oid   uint32 `json:"oid,omitempty"`   // of the table; 0, from an earlier version: unknown
	// Joined is the oid of the table's entry in the publication: another one when it
	// was taken out and put back, 0 like Oid's.
	Joined uint32        `json:"joined,omitempty"`
	Key    []string      `json:"key,omitempty"`   // the key's columns, in the order of the reading
	Order  []string      `json:"order,omitempty"` // of each: its operator, and its collation
	Files  []uint32      `json:"files,omitempty"` // relfilenodes: a truncate or a rewrite changes them
	Runs   []runPosition `json:"runs,omitempty"`
}

type runPosition struct {
	Snap    string   `json:"snap"`
	Upto    []string `json:"upto,omitempty"`
	Horizon LSNText  `json:"horizon"`
}

// LSNText is an LSN that JSON holds in PostgreSQL's notation.
type LSNText LSN

// MarshalText writes an LSN.
func (l LSNText) MarshalText() ([]byte, error) { return LSN(l).append(nil), nil }

// UnmarshalText reads one.
func (l *LSNText) UnmarshalText(t []byte) error {
	n, err := ParseLSN(string(t))
	*l = LSNText(n)
	return err
}

func parsePosition(key connectors.PositionKey, p connectors.Position, into any, version *int) error {
	if err := json.Unmarshal(p, into); err != nil {
		return connectors.Fatal(fmt.Errorf("position %s: %w", key, err), "")
	}
	if *version != 1 {
		return connectors.Fatal(fmt.Errorf("position %s has version %d, this program knows 1", key, *version), "use the program that wrote it, or a later one")
	}
	return nil
}

func mustJSON(v any) connectors.Position {
	b, err := json.Marshal(v)
	if err != nil {
		panic("postgres: a position that is no JSON: " + err.Error())
	}
	return b
}

// Compare orders two positions of one key. Ones that cannot be read are equal.
func (s *source) Compare(key connectors.PositionKey, a, b connectors.Position) int {
	switch {
	case a == nil || b == nil:
		return cmp.Compare(len(a), len(b))
	case key == streamKey:
		var x, y streamPosition
		if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
			return 0
		}
		return cmp.Or(cmp.Compare(x.LSN, y.LSN), cmp.Compare(x.Tx, y.Tx), cmp.Compare(x.N, y.N))
	case strings.HasPrefix(string(key), tablePrefix):
		var x, y tablePosition
		if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
			return 0
		}
		rank := map[string]int{stateCopying: 0, stateCopied: 1, stateDone: 2, stateLeft: 3}
		return cmp.Or(cmp.Compare(x.Gen, y.Gen), cmp.Compare(rank[x.State], rank[y.State]), cmp.Compare(x.Rows, y.Rows), cmp.Compare(len(x.Runs), len(y.Runs)))
	}
	return 0
}
