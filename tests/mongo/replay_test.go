package mongo

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// envelope is what of a change event the replay needs.
type envelope struct {
	Op     string  `json:"op"`
	Before *string `json:"before"`
	After  *string `json:"after"`
	Source struct {
		Snapshot string `json:"snapshot"`
		Sequence string `json:"sequence"`
	} `json:"source"`
}

// replica replays topics and refuses what cannot follow: a create of a document that is there,
// an update or a delete of one that is not, one event twice, an image that is not the document.
type replica struct {
	t      *testing.T
	strict bool // images: before is the document that is there
	docs   map[string]map[string]string
	seen   map[string]int64
	trace  map[string][]string
	ops    map[string]int
	events int
	bad    int
}

func newReplica(t *testing.T, strict bool) *replica {
	return &replica{t: t, strict: strict, docs: map[string]map[string]string{}, seen: map[string]int64{}, trace: map[string][]string{}, ops: map[string]int{}}
}

func short(text string) string { return text[:min(len(text), 400)] }

func (p *replica) fail(r *kgo.Record, why string) {
	if p.bad++; p.bad < 6 {
		p.t.Errorf("%s offset %d: %s: %s %s\nbefore it:\n%s", r.Topic, r.Offset, why, r.Key, short(string(r.Value)), strings.Join(p.trace[r.Topic+string(r.Key)], "\n"))
	}
}

func (p *replica) apply(r *kgo.Record) {
	if r.Value == nil {
		return
	}
	var e envelope
	if err := json.Unmarshal(r.Value, &e); err != nil {
		p.fail(r, err.Error())
		return
	}
	p.events++
	p.ops[e.Op]++
	k := r.Topic + string(r.Key)
	if e.Source.Sequence != "" {
		if at, twice := p.seen[k+e.Source.Sequence]; twice {
			p.fail(r, fmt.Sprintf("the event came at offset %d, too", at))
		}
		p.seen[k+e.Source.Sequence] = r.Offset
	}
	if e.Op == "t" {
		p.docs[r.Topic] = map[string]string{}
		return
	}
	var key struct{ ID string }
	if err := json.Unmarshal(r.Key, &key); err != nil {
		p.fail(r, err.Error())
		return
	}
	docs := p.docs[r.Topic]
	if docs == nil {
		docs = map[string]string{}
		p.docs[r.Topic] = docs
	}
	old, there := docs[key.ID]
	if p.strict && e.Before != nil && *e.Before != old {
		p.fail(r, "it changes another document than "+short(old))
	}
	switch e.Op {
	case "r", "c":
		if there {
			p.fail(r, "the document is there already")
		}
		docs[key.ID] = *e.After
	case "u":
		if !there {
			p.fail(r, "there is no such document")
		}
		if e.After != nil { // else it was gone when it was looked up: its delete follows
			docs[key.ID] = *e.After
		}
	case "d":
		if !there {
			p.fail(r, "there is no such document")
		}
		delete(docs, key.ID)
	default:
		p.fail(r, "an unknown operation")
	}
	trace := append(p.trace[k], fmt.Sprintf("%d: %s", r.Offset, short(string(r.Value))))
	p.trace[k] = trace[max(0, len(trace)-5):]
}

// read replays the topics, committed records only, until each has the event that last asks for.
func (p *replica) read(bootstrap string, topics []string, last func(*kgo.Record) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Minute)
	defer cancel()
	c, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxPartitionBytes(8<<20))
	if err != nil {
		p.t.Fatal(err)
	}
	defer c.Close()
	ended := map[string]bool{}
	for len(ended) < len(topics) {
		f := c.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			p.t.Fatalf("%d of %d topics have not come to their end: %v; at the end: %v", len(topics)-len(ended), len(topics), err, ended)
		}
		f.EachRecord(func(r *kgo.Record) {
			p.apply(r)
			if last(r) {
				ended[r.Topic] = true
			}
		})
	}
}

// matches compares a topic's replay with the collection, document by document, as BSON: the order of
// fields and the types included.
func (p *replica) matches(ctx context.Context, topic string, c *mongo.Collection) int {
	p.t.Helper()
	cur, err := c.Find(ctx, d{})
	if err != nil {
		p.t.Fatal(err)
	}
	left := map[string]bson.Raw{}
	for id, text := range p.docs[topic] {
		var doc bson.Raw
		if err := bson.UnmarshalExtJSON([]byte(text), false, &doc); err != nil {
			p.t.Fatalf("%s: %s: %v in %s", topic, id, err, short(text))
		}
		left[identity(doc)] = doc
	}
	n, bad := 0, 0
	for cur.Next(ctx) {
		n++
		id := identity(cur.Current)
		if doc, there := left[id]; !there || string(doc) != string(cur.Current) {
			if bad++; bad < 5 {
				p.t.Errorf("%s: the topic has %s, the collection %s", topic, short(doc.String()), short(cur.Current.String()))
			}
		}
		delete(left, id)
	}
	if err := cur.Err(); err != nil {
		p.t.Fatal(err)
	}
	for _, doc := range left {
		if bad++; bad < 10 {
			p.t.Errorf("%s: the topic has %s, the collection does not", topic, short(doc.String()))
		}
	}
	return n
}

// identity is a document's _id, its type included.
func identity(doc bson.Raw) string {
	v := doc.Lookup("_id")
	return string(append([]byte{byte(v.Type)}, v.Value...))
}
