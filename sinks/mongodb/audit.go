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
	au := &audit{t: t, part: &part{Assignment: a, collection: s.collectionName(a.Topic), start: a.StartOffset, next: a.StartOffset, buf: newBuffer(), shape: new(string)},
		upto: a.StartOffset, seed: maphash.MakeSeed(), docs: map[uint64]image{}}
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
	docs    map[uint64]image // by the hash of the _id
}

// image is what a document must be. A document of a document store, and one of mode append, is one hash; a row, of which
// some columns may not be sent, has one for each column.
type image struct {
	whole  uint64
	fields []field
	offset int64 // of the last record that wrote it
}

// field is a field's name and value, hashed.
type field struct{ name, value uint64 }

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
	au.upto, *au.part.shape = have.Next, have.Shape
	n, err := au.t.offsets.CountDocuments(sctx, bson.D{{Key: "target", Value: au.part.collection}, {Key: "_id.partition", Value: bson.D{{Key: "$lt", Value: connectors.ReplayPartition}}}})
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
	bases := make([]image, len(b.lines)) // before anything is deleted
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
		im, err := au.image(l.doc)
		if err != nil {
			return err
		}
		if l.partly {
			base := bases[i]
			if l.from.IsZero() {
				base = au.docs[k]
			}
			au.inherit(&im, base, l.unset)
		}
		im.offset = offset
		au.docs[k] = im
	}
	return nil
}

// inherit takes over what a document has beside the fields that were sent.
func (au *audit) inherit(im *image, base image, unset []string) {
	known := map[uint64]bool{}
	for _, u := range unset {
		known[au.hash([]byte(u))] = true
	}
	for _, f := range im.fields {
		known[f.name] = true
	}
	for _, f := range base.fields {
		if !known[f.name] {
			im.fields = append(im.fields, f)
		}
	}
}

func (au *audit) hash(b []byte) uint64 { return maphash.Bytes(au.seed, b) }

// image hashes a document but for its _id, which is how it was found.
func (au *audit) image(doc bsoncore.Document) (image, error) {
	elements, err := doc.Elements()
	if err != nil {
		return image{}, err
	}
	var h maphash.Hash
	h.SetSeed(au.seed)
	one := *au.part.shape == shapeDocuments || !au.t.s.cfg.upsert
	var out image
	if !one {
		out.fields = make([]field, 0, len(elements))
	}
	for _, e := range elements {
		switch {
		case string(e.KeyBytes()) == "_id":
		case one:
			_, _ = h.Write(e) // it never fails
		default:
			out.fields = append(out.fields, field{au.hash(e.KeyBytes()), au.hash(e)})
		}
	}
	if one {
		out.whole = h.Sum64()
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
		want, there := au.docs[k]
		delete(au.docs, k)
		if !there {
			if !partial && !(au.shared && au.t.s.cfg.upsert) { // else an earlier record, or another partition, may have written it
				report(connectors.Difference{Kind: connectors.DoubledRecord, Where: where(id), What: "the log does not have this document"})
			}
			continue
		}
		have, err := au.image(bsoncore.Document(cur.Current))
		if err != nil {
			return agreed, err
		}
		if what := au.differ(bsoncore.Document(cur.Current), have, want, partial); what != "" {
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

// differ says what is wrong with a document; "": nothing. partial: fields that no record left sent are not looked at.
func (au *audit) differ(doc bsoncore.Document, have, want image, partial bool) string {
	if have.whole != want.whole {
		return "it is not what the log has: a value, a type, or the order of fields"
	}
	left := make(map[uint64]uint64, len(want.fields))
	for _, f := range want.fields {
		left[f.name] = f.value
	}
	for _, f := range have.fields {
		value, known := left[f.name]
		delete(left, f.name)
		if known && value == f.value || !known && partial {
			continue
		}
		elements, _ := doc.Elements() // it was read before
		for _, e := range elements {
			if au.hash(e.KeyBytes()) == f.name {
				return "it differs in " + e.Key()
			}
		}
	}
	if len(left) > 0 {
		return fmt.Sprintf("it lacks %d fields", len(left))
	}
	return ""
}
