package mongodb

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"

	"github.com/forebayhub/forebay/connectors"
)

// auditFlush is how much of the replay is held before it is hashed.
const auditFlush = 4 << 20

var _ connectors.SnapshotAuditor = (*sink)(nil)

// Audit replays the log into hashes and holds the target against them, at one cluster time: the offset that was
// committed and the documents belong together.
//
// Where the log no longer begins at offset 0, documents that only earlier records wrote cannot be judged: they are
// left out, as are columns that no record left sent.
func (s *sink) Audit(ctx context.Context, env connectors.SinkEnv, a connectors.Assignment, end int64,
	next func() (*connectors.Record, error), report func(connectors.Difference)) (int64, error) {
	au, err := s.AuditSnapshot(ctx, env, a)
	if err != nil {
		return 0, err
	}
	defer func() { _ = au.Close() }() // nothing was changed
	if au.Next() > end {
		return 0, fmt.Errorf("the target has moved on to offset %d while the audit of the log up to %d began: stop the topic's writers, or audit again in a quiet moment", au.Next(), end)
	}
	return au.Compare(ctx, next, report)
}

// AuditSnapshot opens a session that sees the offset and the documents of one cluster time. The server keeps it for
// five minutes (minSnapshotHistoryWindowInSeconds).
func (s *sink) AuditSnapshot(ctx context.Context, env connectors.SinkEnv, a connectors.Assignment) (connectors.AuditSnapshot, error) {
	t := newTask(s, env)
	if err := t.connect(); err != nil {
		return nil, err
	}
	// Without the task's read concern: the session has its own.
	t.db = t.client.Database(s.cfg.database, options.Database().SetReadPreference(readpref.Primary()))
	t.offsets = t.db.Collection(s.cfg.offsets)
	au := &audit{t: t, part: &part{Assignment: a, collection: s.collectionName(a.Topic), start: a.StartOffset, next: a.StartOffset, buf: newBuffer()},
		upto: a.StartOffset, seed: maphash.MakeSeed(), docs: map[uint64]*image{}}
	if err := au.point(ctx); err != nil {
		return nil, errors.Join(err, au.Close())
	}
	return au, nil
}

type audit struct {
	t       *task
	session *mongo.Session
	part    *part
	upto    int64 // everything before it is in the target
	shared  bool  // other partitions write the collection, too
	seed    maphash.Seed
	docs    map[uint64]*image // by the hash of the _id
}

// image is what a document must be: the hash of each of its fields by the hash of its name.
type image struct {
	fields map[uint64]uint64
	offset int64 // of the last record that wrote it
}

// point fixes the cluster time, and reads how far the target is then.
func (au *audit) point(ctx context.Context) error {
	if err := identify(ctx, au.t.client); err != nil {
		return err
	}
	// Not the time that the server takes by itself: that may lie before what was acknowledged a moment ago.
	var now struct {
		At bson.Timestamp `bson:"operationTime"`
	}
	err := au.t.client.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Decode(&now)
	if err != nil {
		return classify(err, "ask the cluster time")
	}
	if au.session, err = au.t.client.StartSession(options.Session().SetSnapshot(true).SetSnapshotTime(now.At)); err != nil {
		return err
	}
	sctx := mongo.NewSessionContext(ctx, au.session)
	have, err := au.t.readOffset(sctx, au.part.TopicPartition)
	if err != nil || have == nil {
		return err
	}
	au.upto, au.part.shape = have.Next, have.Shape
	n, err := au.t.offsets.CountDocuments(sctx, bson.D{{Key: "target", Value: au.part.collection}})
	au.shared = n > 1
	return classify(err, "read the offsets")
}

// Next is where the target stands.
func (au *audit) Next() int64 { return au.upto }

// Close gives session and client back.
func (au *audit) Close() error {
	if au.session != nil {
		ctx, cancel := context.WithTimeout(context.Background(), closeTime)
		defer cancel()
		au.session.EndSession(ctx)
	}
	return au.t.Close()
}

// Compare replays the log and compares.
func (au *audit) Compare(ctx context.Context, next func() (*connectors.Record, error), report func(connectors.Difference)) (int64, error) {
	if err := au.replay(next, report); err != nil {
		return 0, err
	}
	return au.compare(ctx, report)
}

// replay brings the log's records up to the point into the images.
func (au *audit) replay(next func() (*connectors.Record, error), report func(connectors.Difference)) error {
	p := au.part
	missing := func(offset int64, format string, args ...any) {
		report(connectors.Difference{Kind: connectors.MissingRecord, Where: fmt.Sprintf("%s-%d offset %d", p.Topic, p.Partition, offset), What: fmt.Sprintf(format, args...)})
	}
	last := p.start
	for {
		r, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if r.Offset >= au.upto {
			if r.RawValue != nil {
				missing(r.Offset, "the target stands at offset %d", au.upto)
			}
			continue
		}
		last = r.Offset
		var bad *recordError
		if err := au.t.writeRecord(p, r); errors.As(err, &bad) {
			missing(r.Offset, "it cannot be written: %s", bad.Error())
		} else if err != nil {
			return err
		}
		if p.buf.size() >= auditFlush {
			if err := au.flush(last); err != nil {
				return err
			}
		}
	}
	au.t.settle(p)
	return au.flush(last)
}

// flush does to the images what upsert does to the collection.
func (au *audit) flush(offset int64) error {
	b := au.part.buf
	au.part.buf = newBuffer()
	bases := make([]*image, len(b.lines)) // before anything is deleted
	for i := range b.lines {
		if id := b.lines[i].needs(); !id.IsZero() {
			bases[i] = au.docs[au.hash([]byte(canonical(id)))]
		}
	}
	if b.truncate {
		clear(au.docs)
	}
	for i := range b.lines {
		if l := &b.lines[i]; l.del {
			delete(au.docs, au.hash([]byte(l.canon)))
		}
	}
	for i := range b.lines {
		l := &b.lines[i]
		if !l.live {
			continue
		}
		if l.canon == "" {
			l.canon = canonical(l.id)
		}
		k := au.hash([]byte(l.canon))
		fields, err := au.fields(l.doc)
		if err != nil {
			return err
		}
		if l.partly {
			base := bases[i]
			if l.from.IsZero() {
				base = au.docs[k]
			}
			au.inherit(fields, base, l.unset)
		}
		au.docs[k] = &image{fields: fields, offset: offset}
	}
	return nil
}

// inherit takes over what a document has beside the fields that were sent.
func (au *audit) inherit(fields map[uint64]uint64, base *image, unset []string) {
	if base == nil {
		return
	}
	gone := map[uint64]bool{}
	for _, u := range unset {
		gone[au.hash([]byte(u))] = true
	}
	for name, value := range base.fields {
		if _, sent := fields[name]; !sent && !gone[name] {
			fields[name] = value
		}
	}
}

func (au *audit) hash(b []byte) uint64 { return maphash.Bytes(au.seed, b) }

// fields hashes a document's fields but for its _id, which is how it was found. Those of a document of a document
// store have an order; columns have none.
func (au *audit) fields(doc bsoncore.Document) (map[uint64]uint64, error) {
	elements, err := doc.Elements()
	if err != nil {
		return nil, err
	}
	ordered := au.part.shape == shapeDocuments || !au.t.s.cfg.upsert
	out := make(map[uint64]uint64, len(elements))
	for i, e := range elements {
		k := e.KeyBytes()
		if string(k) == "_id" {
			continue
		}
		name, value := au.hash(k), au.hash(e)
		if ordered {
			name = au.hash(append(fmt.Appendf(nil, "%d ", i), k...))
		}
		out[name] = value
	}
	return out, nil
}

// compare reads the target's documents.
func (au *audit) compare(ctx context.Context, report func(connectors.Difference)) (agreed int64, err error) {
	p := au.part
	filter := bson.D{}
	if !au.t.s.cfg.upsert { // other topics may share the collection
		at := func(offset int64) bson.RawValue {
			return recordID(&connectors.Record{Topic: p.Topic, Partition: p.Partition, Offset: offset})
		}
		filter = bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: at(p.StartOffset)}, {Key: "$lt", Value: at(au.upto)}}}}
	}
	partial := p.StartOffset > 0
	cur, err := au.t.db.Collection(p.collection).Find(mongo.NewSessionContext(ctx, au.session), filter)
	if err != nil {
		return 0, classify(err, "read "+p.collection)
	}
	defer func() { _ = cur.Close(ctx) }() // it was only read
	where := func(id bson.RawValue) string {
		return fmt.Sprintf("%s.%s _id %s", au.t.s.cfg.database, p.collection, id)
	}
	for cur.Next(ctx) {
		id := cur.Current.Lookup("_id")
		k := au.hash([]byte(canonical(id)))
		want := au.docs[k]
		delete(au.docs, k)
		if want == nil {
			if !partial && !(au.shared && au.t.s.cfg.upsert) { // else an earlier record, or another partition, may have written it
				report(connectors.Difference{Kind: connectors.DoubledRecord, Where: where(id), What: "the log does not have this document"})
			}
			continue
		}
		have, err := au.fields(bsoncore.Document(cur.Current))
		if err != nil {
			return agreed, err
		}
		if what := au.differ(bsoncore.Document(cur.Current), have, want, partial && p.shape != shapeDocuments); what != "" {
			report(connectors.Difference{Kind: connectors.DifferentRecord, Where: where(id), What: what})
			continue
		}
		agreed++
	}
	if err := cur.Err(); err != nil {
		return agreed, classify(err, "read "+p.collection)
	}
	for _, lost := range au.docs {
		report(connectors.Difference{Kind: connectors.MissingRecord, Where: au.t.s.cfg.database + "." + p.collection, What: fmt.Sprintf("a document that the log has written last at or before offset %d", lost.offset)})
	}
	return agreed, nil
}

// differ says what is wrong with a document; "": nothing.
func (au *audit) differ(doc bsoncore.Document, have map[uint64]uint64, want *image, partial bool) string {
	missing := 0
	for name, value := range want.fields {
		if got, ok := have[name]; !ok {
			missing++
		} else if got == value {
			delete(have, name)
		}
	}
	if missing > 0 {
		return fmt.Sprintf("it lacks %d fields", missing)
	}
	elements, _ := doc.Elements() // it was read before
	for _, e := range elements {
		for name, value := range have {
			if value != au.hash(e) || partial && !hasKey(want.fields, name) {
				continue
			}
			return "it differs in " + e.Key()
		}
	}
	return ""
}

func hasKey(m map[uint64]uint64, k uint64) bool {
	_, ok := m[k]
	return ok
}
