package mongodb

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
)

// offsetID names an offset document: one for each sink, topic and partition.
type offsetID struct {
	Sink      string `bson:"sink"`
	Topic     string `bson:"topic"`
	Partition int32  `bson:"partition"`
}

// offset is version 1 of an offset document; docs/formats/mongodb-sink.md describes it.
type offset struct {
	ID      offsetID  `bson:"_id"`
	Version int       `bson:"v"`
	TopicID string    `bson:"topicId"` // 32 hex digits
	Next    int64     `bson:"next"`
	Target  string    `bson:"target"` // the collection
	Shape   string    `bson:"shape,omitempty"`
	Epoch   int64     `bson:"epoch"`
	Task    string    `bson:"task"`
	Host    string    `bson:"host"`
	Session bson.Raw  `bson:"session,omitempty"` // the task's: what a killed one leaves open can be ended
	Updated time.Time `bson:"updated"`
}

func (t *task) offsetID(tp connectors.TopicPartition) offsetID {
	return offsetID{Sink: t.s.id(), Topic: tp.Topic, Partition: tp.Partition}
}

// forget is what makes the sink write a topic again from its start.
func (t *task) forget(tp connectors.TopicPartition) string {
	return fmt.Sprintf("in mongosh: use %s; db.getCollection(%q).deleteOne({_id: {sink: %q, topic: %q, partition: %d}})", t.s.cfg.database, t.s.cfg.offsets, t.s.id(), tp.Topic, tp.Partition)
}

// claim takes a partition over and says where it stands (invariant 6). From here on no task of a lower
// epoch can move its offset, whatever it has prepared (invariant 7): a transaction that is under way right now
// has written the document, so the server lets the claim wait for it; one that has begun
// before the claim and not yet written conflicts with it.
func (t *task) claim(ctx context.Context, a connectors.Assignment) (*offset, error) {
	id, topicID := t.offsetID(a.TopicPartition), hex.EncodeToString(a.TopicID[:])
	if err := t.alone(ctx, a.Topic); err != nil {
		return nil, err
	}
	if err := t.interrupt(ctx, a.TopicPartition, topicID); err != nil {
		return nil, err
	}
	now, session := time.Now().UTC(), t.session.ID()
	for range 3 { // somebody may insert or delete it between two of these
		var have offset
		err := t.offsets.FindOneAndUpdate(ctx, bson.D{{Key: "_id", Value: id}, {Key: "topicId", Value: topicID}, {Key: "epoch", Value: bson.D{{Key: "$lte", Value: t.env.Epoch}}}},
			bson.D{{Key: "$set", Value: bson.D{{Key: "epoch", Value: t.env.Epoch}, {Key: "task", Value: t.env.TaskID}, {Key: "host", Value: t.env.Host}, {Key: "session", Value: session}, {Key: "updated", Value: now}}}},
			options.FindOneAndUpdate().SetReturnDocument(options.After)).Decode(&have)
		if err == nil {
			return &have, version(&have)
		}
		if !errors.Is(err, mongo.ErrNoDocuments) {
			return nil, classify(err, "claim the offset")
		}
		first := offset{ID: id, Version: 1, TopicID: topicID, Next: a.First(), Target: t.s.collectionName(a.Topic), Epoch: t.env.Epoch, Task: t.env.TaskID, Host: t.env.Host, Session: session, Updated: now}
		_, err = t.offsets.InsertOne(ctx, first)
		if err == nil {
			return &first, nil
		}
		if !mongo.IsDuplicateKeyError(err) {
			return nil, classify(err, "claim the offset")
		}
		other, err := t.readOffset(ctx, a.TopicPartition)
		if err != nil {
			return nil, err
		}
		switch {
		case other == nil || other.TopicID == topicID && other.Epoch <= t.env.Epoch:
			continue
		case other.TopicID != topicID:
			return nil, connectors.Fatal(fmt.Errorf("topic %s has been deleted and created again: the target holds the old one (id %s) up to offset %d, and offsets of the new one (id %s) name other records",
				a.Topic, other.TopicID, other.Next-1, topicID),
				"what was written is safe; to write the new topic from its start over it, "+t.forget(a.TopicPartition))
		}
		return nil, t.fenced(a.TopicPartition, other)
	}
	return nil, errors.New("the offset's document is made and removed by somebody all the time")
}

// interrupt ends the transaction that a predecessor may have left open: a server keeps one whose client was killed for
// a minute, and the claim would wait for it. One of a predecessor that lives is interrupted, too; it will find out that
// it is none any more.
func (t *task) interrupt(ctx context.Context, tp connectors.TopicPartition, topicID string) error {
	have, err := t.readOffset(ctx, tp)
	if err != nil || have == nil || len(have.Session) == 0 || have.TopicID != topicID || have.Epoch > t.env.Epoch || t.owns(have) {
		return err
	}
	err = t.client.Database("admin").RunCommand(ctx, bson.D{{Key: "killSessions", Value: bson.A{have.Session}}}).Err()
	if err != nil { // of another user: then the claim waits
		t.log.Debug("end the predecessor's transaction", "error", err)
	}
	return nil
}

// version refuses what a later program wrote.
func version(o *offset) error {
	if o.Version != 1 {
		return connectors.Fatal(fmt.Errorf("the offset's document has version %d, this program knows 1", o.Version), "use the program that wrote it, or a later one")
	}
	return nil
}

// alone makes sure that no other topic is kept in the topic's collection.
func (t *task) alone(ctx context.Context, topic string) error {
	if !t.s.cfg.upsert {
		return nil
	}
	other, err := otherTopic(ctx, t.offsets, t.s.collectionName(topic), topic)
	if err != nil || other == nil {
		return err
	}
	return connectors.Fatal(fmt.Errorf("collection %s.%s already holds topic %s (sink %s): the keys of %s would overwrite it", t.s.cfg.database, other.Target, other.ID.Topic, other.ID.Sink, topic),
		"give one of the two sinks another collection or database; or, when that topic is no longer written, delete its documents in "+t.s.cfg.offsets)
}

// otherTopic finds another topic's offset for a collection.
func otherTopic(ctx context.Context, offsets *mongo.Collection, target, topic string) (*offset, error) {
	var other offset
	err := offsets.FindOne(ctx, bson.D{{Key: "target", Value: target}, {Key: "_id.topic", Value: bson.D{{Key: "$ne", Value: topic}}}}).Decode(&other)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	return &other, classify(err, "look for other topics of the collection")
}

// readOffset reads a partition's document as a majority has it; nil when there is none.
func (t *task) readOffset(ctx context.Context, tp connectors.TopicPartition) (*offset, error) {
	var have offset
	err := t.offsets.FindOne(ctx, bson.D{{Key: "_id", Value: t.offsetID(tp)}}).Decode(&have)
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	if err != nil {
		return nil, classify(err, "read the offset")
	}
	return &have, version(&have)
}

// owns says that the document was last claimed by this very task.
func (t *task) owns(have *offset) bool {
	return have != nil && have.Epoch == t.env.Epoch && have.Task == t.env.TaskID
}

// fenced says who has taken a partition over. If nobody has, the database has gone back by itself, or
// somebody has set the offset: the next task resumes where it stands.
func (t *task) fenced(tp connectors.TopicPartition, have *offset) error {
	if t.owns(have) {
		return fmt.Errorf("%s-%d: the target stands at offset %d, and no task has moved it there: a restored backup; beginning from there", tp.Topic, tp.Partition, have.Next)
	}
	if have == nil {
		return connectors.Fatal(fmt.Errorf("the document of %s-%d is gone from %s.%s", tp.Topic, tp.Partition, t.s.cfg.database, t.s.cfg.offsets), "somebody deleted it while the sink ran: restart the sink to write the topic again from its start")
	}
	return connectors.Fenced(fmt.Errorf("%s-%d was taken over by task %s (epoch %d) on %s at %s, which stands at offset %d; this is task %s (epoch %d)",
		tp.Topic, tp.Partition, have.Task, have.Epoch, have.Host, have.Updated.Format(time.RFC3339), have.Next, t.env.TaskID, t.env.Epoch),
		"another worker runs this sink; if none does, its log was set up anew: "+t.forget(tp))
}

// mine finds the offset's document as long as it is ours and stands at next.
func (t *task) mine(p *part, next int64) bson.D {
	return bson.D{{Key: "_id", Value: t.offsetID(p.TopicPartition)}, {Key: "topicId", Value: hex.EncodeToString(p.TopicID[:])},
		{Key: "epoch", Value: t.env.Epoch}, {Key: "task", Value: t.env.TaskID}, {Key: "next", Value: next}}
}

// fence moves a partition's offset inside the open transaction, or reports that it is not ours any more
// (invariant 7). It is the transaction's first statement: a zombie's conflicts with its heir's claim.
func (t *task) fence(ctx context.Context, b *batch, next int64) (moved bool, err error) {
	set := bson.D{{Key: "next", Value: next}, {Key: "updated", Value: time.Now().UTC()}}
	if b.shape != "" {
		set = append(set, bson.E{Key: "shape", Value: b.shape})
	}
	u, err := t.offsets.UpdateOne(ctx, t.mine(b.part, b.start), bson.D{{Key: "$set", Value: set}})
	if err != nil {
		return false, classify(err, "move the offset")
	}
	return u.MatchedCount == 1, nil
}

// settled is for a batch whose start the offset does not stand at: an earlier try may have moved it. The write
// is what makes sure that a majority has that: when it is acknowledged, so is everything before it.
func (t *task) settled(ctx context.Context, b *batch) error {
	u, err := t.offsets.UpdateOne(ctx, t.mine(b.part, b.next), bson.D{{Key: "$set", Value: bson.D{{Key: "updated", Value: time.Now().UTC()}}}})
	if err != nil {
		return classify(err, "look what became of a commit")
	}
	if u.MatchedCount == 1 {
		return nil
	}
	have, err := t.readOffset(ctx, b.part.TopicPartition)
	if err != nil {
		return err
	}
	if t.owns(have) && have.Next == b.start { // what moved it was rolled back in an election
		return &again{errors.New("the offset was moved back")}
	}
	return t.fenced(b.part.TopicPartition, have)
}

// again is an error after which the commit is tried once more.
type again struct{ err error }

func (e *again) Error() string { return e.err.Error() }
func (e *again) Unwrap() error { return e.err }

// HasErrorLabel makes mends say yes.
func (e *again) HasErrorLabel(label string) bool { return label == transient }
