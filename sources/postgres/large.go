package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/jackc/pgx/v5/pgconn"
)

// rowTooLarge is the error for a row that is not taken into memory. PostgreSQL has rows of up
// to 1 GiB, and each is in memory several times on its way; the log refuses one only at the end.
func (t *task) rowTooLarge(name tableName, which string, e *oversize) error {
	return connectors.Fatal(fmt.Errorf("a row of %s%s has %d bytes as text; max_row is %s", name, which, e.bytes, spec.ByteSize(t.cfg.maxRow)),
		"raise max_row if a transform leaves the large column out and the machine has four times as much memory, or leave the column out of the publication (a list of columns, PostgreSQL 15 and later; not for changes that are in the WAL)")
}

// largeChange is what comes of a message of the stream that is too large: one of a table that is not ours is passed over.
func (t *task) largeChange(e *oversize) error {
	s := t.stream
	kind := e.head[walHeader]
	if e.head[0] != 'w' || kind != 'I' && kind != 'U' && kind != 'D' {
		return fmt.Errorf("read the change stream: %w", e)
	}
	st, known := s.relations[binary.BigEndian.Uint32(e.head[walHeader+1:])]
	switch {
	case !known:
		return fmt.Errorf("read the change stream: %w", e)
	case st != nil:
		return t.rowTooLarge(st.name, fmt.Sprintf(" (transaction %d, commit at %s)", s.tx.xid, s.tx.commit), e)
	}
	s.next()
	s.w.pass(e)
	return nil
}

// serverLimit marks the server's own limit: it cannot write a row as text that has more than 1 GiB so, now or later.
func serverLimit(err error, what string) error {
	var p *pgconn.PgError
	if !errors.As(err, &p) || p.Code != "54000" && !strings.HasPrefix(p.Message, "invalid memory alloc request size") {
		return err
	}
	return connectors.Fatal(fmt.Errorf("the server cannot send a row of %s, it is longer than it takes itself: %w", what, err),
		"as text a row has up to 1 GiB, bytea doubles in it: make the row smaller, or leave the column out of the publication (a list of columns, PostgreSQL 15 and later); what the WAL holds of it can only be passed over with a new slot and snapshot")
}
