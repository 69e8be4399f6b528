// Package frame is how records travel between Forebay and a plugin: many in one piece of bytes, one behind the other,
// so that neither side makes a message of each. All numbers are little-endian and have a fixed width, which any
// language packs quickly.
//
//	frame:  entry …
//	entry:  'T' topic i32-partition                   the records that follow are of it
//	        'S' u32-id text                           a schema, as Kafka Connect's JSON has it; it holds for the rest of the stream
//	        'F'                                       forget the schemas so far: their ids are free
//	        'M' u8-flags text-key bytes-position      the position behind the records so far; flags: 1 boundary, 2 forget the key
//	        'P' i32-partition i64-offset              the record that follows is a dead letter that is played again, and lies there in its topic
//	        'R' u8-key u8-value u16-headers i64-time i64-offset header … key value
//	text, bytes, topic:  u32-length, bytes; a mark's key is any bytes
//	header: text-key u32-length+1 bytes               length+1 of 0: null
//	key, value, by its u8:  0 nothing · 1 bytes · 2 u32-schema datum · 3 (a value only) change
//	change: u8-op i64-time-ns u32-row u32-source u32-update before after source update
//	datum:  u8-kind, then nothing (null, unavailable), u8 (bool), i64 (int16, int32, int64), f64 (float, double), bytes (string, bytes),
//	        or u32-count datum … (struct, array; a map's count is of keys and values)
//
// An i64-time is Unix time in milliseconds, 0 for none. A schema's id is given by who sends it, from 1 on; 0 is no schema.
//
// A frame may come from anybody: Decoder checks everything against the bytes that are there and against the schema.
package frame

import (
	"errors"

	"github.com/forebayhub/forebay/connectors/schema"
)

// MaxBytes is the largest frame: enough for the largest record that the log takes, behind others.
const MaxBytes = 24 << 20

// What bounds the memory of who reads.
const (
	MaxSchemas     = 10_000          // of one stream
	MaxSchemaBytes = 16 << 20        // of their texts together
	MaxValues      = 1 << 20         // of one record: members of structs, arrays and maps, and headers
	batchValues    = 1 << 18         // after so many a batch ends
	maxDepth       = schema.MaxDepth // of a value
)

// ErrBad marks what no frame looks like.
var ErrBad = errors.New("a damaged frame")

// ErrFull says that a frame has no room for a record: it is to be sent, and the record is the next one's.
var ErrFull = errors.New("the frame is full")

// The kinds of a key and a value.
const (
	none = iota
	raw
	typed
	change
)

// The entries.
const (
	topicEntry  = 'T'
	schemaEntry = 'S'
	forgetEntry = 'F'
	placeEntry  = 'P'
	markEntry   = 'M'
	recordEntry = 'R'
)

// The flags of a mark.
const (
	boundaryFlag = 1
	forgetFlag   = 2
)
