package mongodb

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

// The positions of the source's one split. Each is a JSON object with a version.
const (
	setKey           connectors.PositionKey = "set"    // which replica set the others belong to
	streamKey        connectors.PositionKey = "stream" // where the change stream stands
	collectionPrefix                        = "collection:"
)

func collectionKey(n namespace) connectors.PositionKey {
	return connectors.PositionKey(collectionPrefix + n.String())
}

// setPosition names the replica set. A cluster time means nothing in another one.
type setPosition struct {
	V   int    `json:"v"`
	Set string `json:"set"`
	ID  string `json:"id,omitempty"` // "": the user may not see it
}

// streamPosition says that every event up to Token is in the log. Without a token the stream
// begins at At, and what it holds at or before At is known already.
type streamPosition struct {
	V     int             `json:"v"`
	At    stamp           `json:"at"`
	N     int64           `json:"n,omitempty"`     // how many events of this cluster time have come: the members of a transaction share one
	Token json.RawMessage `json:"token,omitempty"` // extended JSON of the resume token
	// Of tells the change stream that Token is from, see streamIs; "": unknown (from an earlier version), or the token is of
	// a part of an event.
	Of string `json:"of,omitempty"`
}

// token is the resume token as the server gave it; nil without one.
func (p *streamPosition) token() (bson.Raw, error) {
	if len(p.Token) == 0 || string(p.Token) == "null" {
		return nil, nil
	}
	var raw bson.Raw
	if err := bson.UnmarshalExtJSON(p.Token, true, &raw); err != nil {
		return nil, connectors.Fatal(fmt.Errorf("position %s: the resume token: %w", streamKey, err), "")
	}
	return raw, nil
}

// setToken keeps a copy of a resume token.
func (p *streamPosition) setToken(token bson.Raw) error {
	text, err := bson.MarshalExtJSON(token, true, false)
	if err != nil {
		return fmt.Errorf("keep a resume token: %w", err)
	}
	p.Token = text
	return nil
}

// The states of a collection's snapshot.
const (
	stateCopying = cdc.StateCopying
	stateCopied  = "copied" // all documents are in the log; the stream has yet to pass the last cluster time
	stateDone    = "done"
	stateLeft    = "left" // the config does not name it any more: a return needs a new snapshot
)

// collectionPosition is a collection's snapshot. Done, it is only that.
type collectionPosition struct {
	V     int    `json:"v"`
	State string `json:"state"`
	Gen   int    `json:"gen,omitempty"`   // how often the snapshot was begun anew
	Stale bool   `json:"stale,omitempty"` // the topic has an older state, which is to be taken back first
	Rows  int64  `json:"rows,omitempty"`  // of this generation
	UUID  string `json:"uuid,omitempty"`  // of the collection that is copied: another one has the same name later
	Runs  []run  `json:"runs,omitempty"`
}

// run is a range of documents, in the order of _id, as they were at one cluster time. It begins where
// the run before it ends.
type run struct {
	At   stamp  `json:"at"`
	Upto *docID `json:"upto,omitempty"` // the last one's _id; nil: to the end
}

// docID is an _id in a position: for people as extended JSON, for the program as BSON.
type docID struct{ value bson.RawValue }

type docIDText struct {
	ID  string `json:"id"`
	Raw string `json:"bson"`
}

// MarshalJSON writes an _id.
func (d docID) MarshalJSON() ([]byte, error) {
	text, err := keyStyle.value(nil, d.value)
	if err != nil {
		return nil, err
	}
	raw, err := bson.Marshal(bson.D{{Key: "_", Value: d.value}})
	if err != nil {
		return nil, err
	}
	return json.Marshal(docIDText{ID: string(text), Raw: base64.StdEncoding.EncodeToString(raw)})
}

// UnmarshalJSON reads one.
func (d *docID) UnmarshalJSON(text []byte) error {
	var t docIDText
	if err := json.Unmarshal(text, &t); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(t.Raw)
	if err != nil {
		return err
	}
	if err := bson.Raw(raw).Validate(); err != nil {
		return err
	}
	d.value, err = bson.Raw(raw).LookupErr("_")
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

func encode(v any) (connectors.Position, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, connectors.Fatal(fmt.Errorf("write a position: %w", err), "")
	}
	return b, nil
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
		return cmp.Or(x.At.compare(y.At), cmp.Compare(x.N, y.N))
	case strings.HasPrefix(string(key), collectionPrefix):
		var x, y collectionPosition
		if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
			return 0
		}
		rank := map[string]int{stateCopying: 0, stateCopied: 1, stateDone: 2, stateLeft: 3}
		return cmp.Or(cmp.Compare(x.Gen, y.Gen), cmp.Compare(rank[x.State], rank[y.State]), cmp.Compare(x.Rows, y.Rows), cmp.Compare(len(x.Runs), len(y.Runs)))
	}
	return 0
}
