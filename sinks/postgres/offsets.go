package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/forebayhub/forebay/connectors"
)

// offsetRow is one row of the table of offsets.
type offsetRow struct {
	topicID string // 32 hex digits
	next    int64
	epoch   int64
	task    string
	host    string
	updated string
}

// offsetsTable is the table's quoted name.
func (s *sink) offsetsTable() string {
	return quoteIdent(s.cfg.schema) + "." + quoteIdent(s.cfg.offsets)
}

// ensureOffsets makes the table of offsets, and the schema when create allows it.
func (s *sink) ensureOffsets(ctx context.Context, c *pgconn.PgConn) error {
	rows, err := query(ctx, c, "SELECT to_regnamespace("+quoteLit(quoteIdent(s.cfg.schema))+") IS NOT NULL, to_regclass("+quoteLit(s.offsetsTable())+") IS NOT NULL")
	if err != nil {
		return classify(err, "look for the table of offsets")
	}
	if string(rows[0][0]) != "t" {
		if !s.cfg.create {
			return connectors.Fatal(fmt.Errorf("there is no schema %s", s.cfg.schema), "CREATE SCHEMA "+quoteIdent(s.cfg.schema)+"; or set create: true")
		}
		if err := exec(ctx, c, "CREATE SCHEMA IF NOT EXISTS "+quoteIdent(s.cfg.schema)); err != nil && !exists(err) {
			return classify(err, "create schema "+s.cfg.schema)
		}
	}
	if string(rows[0][1]) == "t" {
		return nil
	}
	// It is made even with create: false: without it nothing can be written exactly once.
	if err := exec(ctx, c, s.offsetsDDL()); err != nil && !exists(err) {
		return classify(err, "create the table of offsets "+s.offsetsTable())
	}
	return nil
}

// offsetsDDL is version 1 of the table; docs/formats/postgres-sink.md describes it.
func (s *sink) offsetsDDL() string {
	return "CREATE TABLE IF NOT EXISTS " + s.offsetsTable() + ` (
		sink text NOT NULL, topic text NOT NULL, partition integer NOT NULL, topic_id text NOT NULL,
		next_offset bigint NOT NULL, target text NOT NULL, epoch bigint NOT NULL, task text NOT NULL, host text NOT NULL,
		updated timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (sink, topic, partition))`
}

// exists says that somebody else made the thing at the same moment.
func exists(err error) bool {
	var p *pgconn.PgError
	return errors.As(err, &p) && (p.Code == "42P07" || p.Code == "42P06" || p.Code == "23505" || p.Code == "42710" || p.Code == "42701")
}

func (t *task) rowKey(tp connectors.TopicPartition) string {
	return "sink = " + quoteLit(t.s.id()) + " AND topic = " + quoteLit(tp.Topic) + " AND partition = " + strconv.Itoa(int(tp.Partition))
}

func (t *task) mine() string {
	return "epoch = " + strconv.FormatInt(t.env.Epoch, 10) + ", task = " + quoteLit(t.env.TaskID) + ", host = " + quoteLit(t.env.Host)
}

// claim takes a partition over and says where to resume (invariant 6). From here
// on no task of a lower epoch can move its offset, whatever it has prepared
// (invariant 7): a commit of one that is under way right now holds the row's
// lock, so claim waits for it and sees what it wrote.
func (t *task) claim(ctx context.Context, c *pgconn.PgConn, a connectors.Assignment) (int64, error) {
	id := hex.EncodeToString(a.TopicID[:])
	if err := t.alone(ctx, c, a.Topic); err != nil {
		return 0, err
	}
	t.interrupt(ctx, c, a.TopicPartition)
	rows, err := query(ctx, c, fmt.Sprintf(`INSERT INTO %s AS o (sink, topic, partition, topic_id, next_offset, target, epoch, task, host) VALUES (%s, %s, %d, %s, %d, %s, %d, %s, %s)
		ON CONFLICT (sink, topic, partition) DO UPDATE SET %s, updated = now() WHERE o.topic_id = EXCLUDED.topic_id AND o.epoch <= EXCLUDED.epoch RETURNING o.next_offset`,
		t.s.offsetsTable(), quoteLit(t.s.id()), quoteLit(a.Topic), a.Partition, quoteLit(id), a.First(), quoteLit(t.s.tableName(a.Topic)), t.env.Epoch, quoteLit(t.env.TaskID), quoteLit(t.env.Host), t.mine()))
	if err != nil {
		return 0, classify(err, "claim the offset")
	}
	if len(rows) == 1 {
		return strconv.ParseInt(string(rows[0][0]), 10, 64)
	}
	have, err := t.readOffset(ctx, c, a.TopicPartition, false)
	if err != nil {
		return 0, err
	}
	if have == nil {
		return 0, errors.New("the offset's row has just been removed")
	}
	if have.topicID != id {
		return 0, connectors.Fatal(fmt.Errorf("topic %s has been deleted and created again: the target holds the old one (id %s) up to offset %d, and offsets of the new one (id %s) name other records",
			a.Topic, have.topicID, have.next-1, id),
			"what was written is safe; to write the new topic from its start over it: DELETE FROM "+t.s.offsetsTable()+" WHERE "+t.rowKey(a.TopicPartition))
	}
	return 0, t.fenced(a.TopicPartition, have)
}

// interrupt ends the session of a predecessor that has the offset's row locked: the server keeps one that hangs in a COPY for as long
// as its connection lives, and the claim would wait for it. One of a predecessor that lives is ended, too; it will find out that it is none any more.
func (t *task) interrupt(ctx context.Context, c *pgconn.PgConn, tp connectors.TopicPartition) {
	// xmax is the transaction that is changing the row, and each transaction holds a lock on its own number.
	err := exec(ctx, c, "SELECT pg_terminate_backend(l.pid) FROM "+t.s.offsetsTable()+" o JOIN pg_catalog.pg_locks l ON l.transactionid = o.xmax JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid WHERE "+
		t.rowKey(tp)+" AND o.epoch < "+strconv.FormatInt(t.env.Epoch, 10)+" AND l.locktype = 'transactionid' AND l.granted AND "+t.sessions("a"))
	if err != nil { // then the claim waits
		t.log.Debug("end the predecessor's session", "error", err)
	}
}

// sessions is the condition for those of this sink, but for the one that asks.
func (t *task) sessions(a string) string {
	return fmt.Sprintf("%[1]s.pid <> pg_backend_pid() AND %[1]s.usename = current_user AND %[1]s.datname = current_database() AND %[1]s.application_name = %[2]s", a, quoteLit(t.s.application()))
}

// alone makes sure that no other topic is kept in the topic's table.
func (t *task) alone(ctx context.Context, c *pgconn.PgConn, topic string) error {
	if !t.s.cfg.upsert {
		return nil
	}
	rows, err := query(ctx, c, "SELECT sink, topic FROM "+t.s.offsetsTable()+" WHERE target = "+quoteLit(t.s.tableName(topic))+" AND topic <> "+quoteLit(topic)+" LIMIT 1")
	if err != nil || len(rows) == 0 {
		return classify(err, "look for other topics of the table")
	}
	return connectors.Fatal(fmt.Errorf("table %s.%s already holds topic %s (sink %s): the keys of %s would overwrite it", t.s.cfg.schema, t.s.tableName(topic), rows[0][1], rows[0][0], topic),
		"give one of the two sinks another table or schema; or, when that topic is no longer written: DELETE FROM "+t.s.offsetsTable()+" WHERE topic = "+quoteLit(string(rows[0][1])))
}

// readOffset reads a partition's row; nil when there is none. With lock it waits
// for a commit that is under way, so what it sees is decided.
func (t *task) readOffset(ctx context.Context, c *pgconn.PgConn, tp connectors.TopicPartition, lock bool) (*offsetRow, error) {
	sql := "SELECT topic_id, next_offset, epoch, task, host, updated FROM " + t.s.offsetsTable() + " WHERE " + t.rowKey(tp)
	if lock {
		sql += " FOR UPDATE"
	}
	rows, err := query(ctx, c, sql)
	if err != nil || len(rows) == 0 {
		return nil, classify(err, "read the offset")
	}
	r := rows[0]
	next, err1 := strconv.ParseInt(string(r[1]), 10, 64)
	epoch, err2 := strconv.ParseInt(string(r[2]), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	return &offsetRow{topicID: string(r[0]), next: next, epoch: epoch, task: string(r[3]), host: string(r[4]), updated: string(r[5])}, nil
}

// fenced says who has taken a partition over. If nobody has, the database has gone back by itself, or
// somebody has set the offset: the next task resumes where it stands.
func (t *task) fenced(tp connectors.TopicPartition, have *offsetRow) error {
	if t.owns(have) {
		return fmt.Errorf("%s-%d: the target stands at offset %d, and no task has moved it there: a failover to a server that was behind, or a restored backup; beginning from there", tp.Topic, tp.Partition, have.next)
	}
	if have == nil {
		return connectors.Fatal(fmt.Errorf("the row of %s-%d is gone from %s", tp.Topic, tp.Partition, t.s.offsetsTable()), "somebody deleted it while the sink ran: restart the sink to write the topic again from its start")
	}
	return connectors.Fenced(fmt.Errorf("%s-%d was taken over by task %s (epoch %d) on %s at %s, which stands at offset %d; this is task %s (epoch %d)",
		tp.Topic, tp.Partition, have.task, have.epoch, have.host, have.updated, have.next, t.env.TaskID, t.env.Epoch),
		"another worker runs this sink; if none does, its log was set up anew: DELETE FROM "+t.s.offsetsTable()+" WHERE "+t.rowKey(tp))
}

// fence moves a partition's offset inside the open transaction, or reports that
// it is not ours any more (invariant 7). It is the transaction's first write, so
// that everything after it happens under the row's lock.
func (t *task) fence(ctx context.Context, c *pgconn.PgConn, b *batch) (moved bool, err error) {
	rows, err := query(ctx, c, fmt.Sprintf("BEGIN ISOLATION LEVEL READ COMMITTED; UPDATE %s SET next_offset = %d, updated = clock_timestamp() WHERE %s AND topic_id = %s AND next_offset = %d AND epoch = %d AND task = %s RETURNING 1",
		t.s.offsetsTable(), b.next, t.rowKey(b.part.TopicPartition), quoteLit(hex.EncodeToString(b.part.TopicID[:])), b.start, t.env.Epoch, quoteLit(t.env.TaskID)))
	return len(rows) == 1, classify(err, "move the offset")
}
