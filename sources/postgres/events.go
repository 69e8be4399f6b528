package postgres

import (
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

// The source block's own fields follow the common ones
// (Debezium's PostgresSourceInfoStructMaker).
const (
	fieldSchema = cdc.CommonFields + iota
	fieldTable
	fieldTxID
	fieldLSN
	fieldXmin
	fieldOrigin
	fieldOriginLSN
	sourceFields
)

var sourceSchema = cdc.SourceSchema("io.debezium.connector.postgresql.Source",
	schema.Field{Name: "schema", Schema: &schema.Schema{Kind: schema.String}},
	schema.Field{Name: "table", Schema: &schema.Schema{Kind: schema.String}},
	schema.Field{Name: "txId", Schema: cdc.Plain(schema.Int64)},
	schema.Field{Name: "lsn", Schema: cdc.Plain(schema.Int64)},
	schema.Field{Name: "xmin", Schema: cdc.Plain(schema.Int64)},
	schema.Field{Name: "origin", Schema: cdc.Plain(schema.String)},
	schema.Field{Name: "origin_lsn", Schema: cdc.Plain(schema.Int64)},
)

// Headers that tie the two halves of a key change together (Debezium's
// RelationalChangeRecordEmitter). Their values are the other key, as JSON.
const (
	headerNewKey = "__debezium.newkey"
	headerOldKey = "__debezium.oldkey"
)

// blockSize is about what the source block and the envelope weigh as JSON.
const blockSize = 420

// block is the source block of the transaction or the run at hand.
type block struct {
	base [sourceFields]schema.Value
	last LSN // end of the last transaction with changes; 0: none yet
}

func newBlock(name, db string) *block {
	bl := &block{}
	bl.base[cdc.FieldVersion] = schema.StringOf(cdc.Version)
	bl.base[cdc.FieldConnector] = schema.StringOf("postgresql")
	bl.base[cdc.FieldName] = schema.StringOf(name)
	bl.base[cdc.FieldDB] = schema.StringOf(db)
	return bl
}

// begin sets what a transaction's events share.
func (bl *block) begin(at time.Time, xid uint64, snap cdc.Snapshot) {
	cdc.SetTime(bl.base[:], at)
	bl.base[fieldTxID] = schema.Int64Of(int64(xid))
	bl.base[cdc.FieldSnapshot] = snap.Value()
	bl.base[fieldOrigin], bl.base[fieldOriginLSN] = schema.Value{}, schema.Value{}
}

// origin says that the transaction was replicated from another server.
func (bl *block) origin(at LSN, name string) {
	bl.base[fieldOrigin], bl.base[fieldOriginLSN] = schema.StringOf(name), schema.Int64Of(int64(at))
}

// source makes the block of one event. It returns the fields so that the
// snapshot can say afterwards that a record was the last.
func (bl *block) source(b *connectors.Batch, sh *shape, at LSN) []schema.Value {
	v := b.Values(sourceFields)
	copy(v, bl.base[:])
	v[fieldSchema], v[fieldTable] = sh.schemaValue, sh.tableValue
	v[fieldLSN] = schema.Int64Of(int64(at))
	var buf [64]byte
	seq := append(buf[:0], '[')
	if bl.last == 0 {
		seq = append(seq, "null"...)
	} else {
		seq = append(appendInt(append(seq, '"'), int64(bl.last)), '"')
	}
	seq = append(appendInt(append(seq, `,"`...), int64(at)), `"]`...)
	v[cdc.FieldSequence] = schema.TextOf(b.Copy(seq))
	return v
}

// emit adds a change; before and after are nil or rows of sh.
func emit(b *connectors.Batch, sh *shape, op connectors.Op, key connectors.Datum, before, after, source []schema.Value, size int, headers ...connectors.Header) {
	c := b.NewChange()
	*c = connectors.Change{Op: op, Row: sh.row, At: time.Now(),
		Source: connectors.Datum{Schema: sourceSchema, Value: schema.Value{Kind: schema.Struct, List: source}}}
	if before != nil {
		c.Before = schema.Value{Kind: schema.Struct, List: before}
	}
	if after != nil {
		c.After = schema.Value{Kind: schema.Struct, List: after}
	}
	b.Add(connectors.Record{Topic: sh.topic, Partition: -1, Key: key, Change: c, Headers: headers}, size+sh.width+blockSize)
}

// tombstone follows a delete, so that compaction can drop the key.
func tombstone(b *connectors.Batch, sh *shape, key connectors.Datum) {
	if key.Schema == nil {
		return // a null key with a null value says nothing
	}
	b.Add(connectors.Record{Topic: sh.topic, Partition: -1, Key: key}, 32)
}

// truncated says that the table is empty now. Its key is null, as Debezium's is.
func truncated(b *connectors.Batch, sh *shape, source []schema.Value) {
	emit(b, sh, connectors.OpTruncate, connectors.Datum{}, nil, nil, source, 0)
}
