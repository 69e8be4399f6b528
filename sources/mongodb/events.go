package mongodb

import (
	"strconv"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

// The source block's own fields follow the common ones (Debezium's MongoDbSourceInfoStructMaker).
const (
	fieldCollection = cdc.CommonFields + iota
	fieldOrd
	fieldLsid
	fieldTxnNumber
	fieldWallTime
	sourceFields
)

var sourceSchema = cdc.SourceSchema("io.debezium.connector.mongo.Source",
	schema.Field{Name: "collection", Schema: &schema.Schema{Kind: schema.String}},
	schema.Field{Name: "ord", Schema: &schema.Schema{Kind: schema.Int32}},
	schema.Field{Name: "lsid", Schema: cdc.Plain(schema.String)},
	schema.Field{Name: "txnNumber", Schema: cdc.Plain(schema.Int64)},
	schema.Field{Name: "wallTime", Schema: cdc.Plain(schema.Int64)},
)

// updateSchema is updateDescription (Debezium's MongoDbSchemaFactory).
var updateSchema = &schema.Schema{Kind: schema.Struct, Name: "io.debezium.connector.mongodb.changestream.updatedescription", Version: 1, Optional: true,
	Fields: []schema.Field{
		{Name: "removedFields", Schema: &schema.Schema{Kind: schema.Array, Optional: true, Elem: &schema.Schema{Kind: schema.String}}},
		{Name: "updatedFields", Schema: cdc.Semantic(schema.String, cdc.Json)},
		{Name: "truncatedArrays", Schema: &schema.Schema{Kind: schema.Array, Optional: true, Elem: &schema.Schema{
			Kind: schema.Struct, Name: "io.debezium.connector.mongodb.changestream.truncatedarray", Version: 1,
			Fields: []schema.Field{
				{Name: "field", Schema: &schema.Schema{Kind: schema.String}},
				{Name: "size", Schema: &schema.Schema{Kind: schema.Int32}},
			}}}},
	}}

// rowSchema is the row of every collection: its key and its document.
var rowSchema = schema.DocumentOf(cdc.Semantic(schema.String, cdc.Json))

// blockSize is about what the source block and the envelope weigh as JSON.
const blockSize = 450

// shape is a collection as its records show it.
type shape struct {
	topic    string
	key      *schema.Schema
	db, coll schema.Value
}

func (s *source) shape(n namespace) *shape {
	topic := s.topic(n)
	return &shape{topic: topic, db: schema.StringOf(n.db), coll: schema.StringOf(n.coll),
		key: &schema.Schema{Kind: schema.Struct, Name: topic + ".Key", Fields: []schema.Field{{Name: "id", Schema: &schema.Schema{Kind: schema.String}}}}}
}

// block is what all source blocks share.
type block struct{ base [sourceFields]schema.Value }

func newBlock(name string) *block {
	bl := &block{}
	bl.base[cdc.FieldVersion] = schema.StringOf(cdc.Version)
	bl.base[cdc.FieldConnector] = schema.StringOf("mongodb")
	bl.base[cdc.FieldName] = schema.StringOf(name)
	return bl
}

// source makes the block of an event that happened at a cluster time; wall is zero where the server tells none.
func (bl *block) source(b *connectors.Batch, sh *shape, at stamp, wall time.Time, snap cdc.Snapshot) []schema.Value {
	v := b.Values(sourceFields)
	copy(v, bl.base[:])
	v[cdc.FieldSnapshot] = snap.Value()
	v[cdc.FieldDB], v[fieldCollection] = sh.db, sh.coll
	v[fieldOrd] = schema.Int32Of(int32(at.I))
	if wall.IsZero() {
		cdc.SetTime(v, at.time())
	} else {
		cdc.SetTime(v, wall)
		v[fieldWallTime] = schema.Int64Of(wall.UnixMilli())
	}
	return v
}

// sequence tells events of one cluster time apart and orders them: ["<cluster time>","<which of it>"].
// Debezium leaves the field empty for MongoDB.
func sequence(b *connectors.Batch, at stamp, n int64) schema.Value {
	var buf [64]byte
	seq := strconv.AppendUint(append(buf[:0], `["`...), at.number(), 10)
	seq = strconv.AppendInt(append(seq, `","`...), n, 10)
	return schema.TextOf(b.Copy(append(seq, `"]`...)))
}

// row is a document's row.
func row(b *connectors.Batch, id, content schema.Value) schema.Value {
	v := b.Values(2)
	v[schema.DocumentID], v[schema.DocumentContent] = id, content
	return schema.Value{Kind: schema.Struct, List: v}
}

// texter makes texts of BSON; its memory is used again.
type texter struct{ buf []byte }

// id is the text of an _id, as Debezium's keys have it, in the batch's memory.
func (t *texter) id(b *connectors.Batch, v bson.RawValue) (schema.Value, error) {
	var err error
	if t.buf, err = keyStyle.value(t.buf[:0], v); err != nil {
		return schema.Value{}, err
	}
	return schema.TextOf(b.Copy(t.buf)), nil
}

func (t *texter) document(b *connectors.Batch, st style, doc bson.Raw) (schema.Value, error) {
	var err error
	if t.buf, err = st.document(t.buf[:0], doc); err != nil {
		return schema.Value{}, err
	}
	return schema.TextOf(b.Copy(t.buf)), nil
}

func (sh *shape) keyOf(b *connectors.Batch, id schema.Value) connectors.Datum {
	k := b.Values(1)
	k[0] = id
	return connectors.Datum{Schema: sh.key, Value: schema.StructOf(k...)}
}

// emit adds a change.
func emit(b *connectors.Batch, sh *shape, op connectors.Op, key connectors.Datum, before, after, update schema.Value, source []schema.Value) {
	c := b.NewChange()
	*c = connectors.Change{Op: op, Row: rowSchema, Before: before, After: after, At: time.Now(),
		Source: connectors.Datum{Schema: sourceSchema, Value: schema.Value{Kind: schema.Struct, List: source}},
		Update: connectors.Datum{Schema: updateSchema, Value: update}}
	b.Add(connectors.Record{Topic: sh.topic, Partition: -1, Key: key, Change: c}, blockSize+weight(key.Value)+weight(before)+weight(after)+weight(update))
}

func weight(v schema.Value) int {
	n := len(v.Data)
	for i := range v.List {
		n += weight(v.List[i])
	}
	return n
}

// tombstone follows a delete, so that compaction can drop the key.
func tombstone(b *connectors.Batch, sh *shape, key connectors.Datum) {
	b.Add(connectors.Record{Topic: sh.topic, Partition: -1, Key: key}, 32)
}

// truncated says that the collection is empty now: it was dropped or renamed, or its documents come anew.
func truncated(b *connectors.Batch, sh *shape, source []schema.Value) {
	emit(b, sh, connectors.OpTruncate, connectors.Datum{}, schema.Value{}, schema.Value{}, schema.Value{}, source)
}
