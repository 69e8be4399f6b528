package cdc

import (
	"time"

	"github.com/forebayhub/forebay/connectors/schema"
)

// Version is what source.version says: the envelope is the one of this Debezium
// line, written by Forebay.
const Version = "3.6.0.forebay"

// Snapshot is the source block's snapshot field (Debezium's SnapshotRecord, lower case).
type Snapshot uint8

const (
	Streamed Snapshot = iota
	SnapshotTrue
	SnapshotFirst
	SnapshotFirstInCollection
	SnapshotLastInCollection
	SnapshotLast
)

var snapshotText = [...]schema.Value{
	Streamed:                  schema.StringOf("false"),
	SnapshotTrue:              schema.StringOf("true"),
	SnapshotFirst:             schema.StringOf("first"),
	SnapshotFirstInCollection: schema.StringOf("first_in_data_collection"),
	SnapshotLastInCollection:  schema.StringOf("last_in_data_collection"),
	SnapshotLast:              schema.StringOf("last"),
}

// Value is the field's value.
func (s Snapshot) Value() schema.Value { return snapshotText[s] }

// The places of the common fields at the head of every source block, in the
// order of Debezium's SchemaFactory.sourceInfoSchemaBuilder.
const (
	FieldVersion = iota
	FieldConnector
	FieldName
	FieldTsMs
	FieldSnapshot
	FieldDB
	FieldSequence
	FieldTsUs
	FieldTsNs
	CommonFields
)

// SourceSchema is a source block: the common fields, then the connector's own.
func SourceSchema(name string, own ...schema.Field) *schema.Schema {
	str := &schema.Schema{Kind: schema.String}
	snapshot := &schema.Schema{Kind: schema.String, Name: Enum, Version: 1, Optional: true, Params: map[string]string{
		"allowed": "true,first,first_in_data_collection,last_in_data_collection,last,false,incremental",
	}}
	fields := []schema.Field{
		FieldVersion:   {Name: "version", Schema: str},
		FieldConnector: {Name: "connector", Schema: str},
		FieldName:      {Name: "name", Schema: str},
		FieldTsMs:      {Name: "ts_ms", Schema: &schema.Schema{Kind: schema.Int64}},
		FieldSnapshot:  {Name: "snapshot", Schema: snapshot},
		FieldDB:        {Name: "db", Schema: str},
		FieldSequence:  {Name: "sequence", Schema: Plain(schema.String)},
		FieldTsUs:      {Name: "ts_us", Schema: Plain(schema.Int64)},
		FieldTsNs:      {Name: "ts_ns", Schema: Plain(schema.Int64)},
	}
	return &schema.Schema{Kind: schema.Struct, Name: name, Version: 1, Fields: append(fields, own...)}
}

// SetTime sets the three fields that hold when the change was made.
func SetTime(block []schema.Value, at time.Time) {
	us := at.UnixMicro()
	block[FieldTsMs] = schema.Int64Of(floorDiv(us, 1000))
	block[FieldTsUs] = schema.Int64Of(us)
	block[FieldTsNs] = schema.Int64Of(us * 1000)
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
