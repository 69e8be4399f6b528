package mongodb

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
)

// shortOplog is an oplog window below which an outage over a weekend's night loses changes.
const shortOplog = 24 * time.Hour

// findings collects what Validate sees.
type findings []spec.Finding

func (f *findings) fail(path, hint, format string, args ...any) {
	*f = append(*f, spec.Finding{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint})
}

func (f *findings) warn(path, hint, format string, args ...any) {
	*f = append(*f, spec.Finding{Path: path, Message: fmt.Sprintf(format, args...), Hint: hint, Warning: true})
}

// err reports an error with the hint that it may carry.
func (f *findings) err(path string, err error) {
	var fatal *connectors.FatalError
	hint := ""
	if errors.As(err, &fatal) {
		hint = fatal.Hint
	}
	f.fail(path, hint, "%s", err)
}

// Validate looks at the live server: everything that Open would stumble over, and
// what would hurt later. It changes nothing.
func (s *source) Validate(ctx context.Context) []spec.Finding {
	var f findings
	c, err := s.connect()
	if err != nil {
		f.err("url", err)
		return f
	}
	defer func() { _ = disconnect(c) }() // what was found is what counts
	v, err := identify(ctx, c)
	if err != nil {
		f.err("url", s.orFinal(err))
		return f
	}
	if v.mongos {
		f.warn("url", "", "a sharded cluster: the source is tested with replica sets only")
	}
	all, err := s.find(ctx, c)
	if err != nil {
		f.err("collections", s.orFinal(err))
		return f
	}
	s.validateNames(ctx, c, all, &f)
	for i := range all {
		s.validateCollection(ctx, c, v, &all[i], &f)
	}
	s.validateStream(ctx, c, &f)
	s.validateOplog(ctx, c, &f)
	return f
}

// validateNames looks for entries that match nothing.
func (s *source) validateNames(ctx context.Context, c *mongo.Client, all []collectionInfo, f *findings) {
	for i := range s.cfg.collections {
		p := &s.cfg.collections[i]
		found := false
		for _, info := range all {
			found = found || p.matches(info.name)
		}
		switch {
		case found:
		case p.literal == nil:
			f.warn("collections", "its documents are streamed once there are some", "no collection matches %s now", p.text)
		default:
			s.validateMissing(ctx, c, *p.literal, f)
		}
	}
}

// validateMissing says why a name is no collection.
func (s *source) validateMissing(ctx context.Context, c *mongo.Client, n namespace, f *findings) {
	cur, err := c.Database(n.db).ListCollections(ctx, bson.D{{Key: "name", Value: n.coll}})
	if err != nil {
		f.err("collections", s.orFinal(err))
		return
	}
	var found []struct{ Type string }
	if err := cur.All(ctx, &found); err == nil && len(found) > 0 {
		f.fail("collections", "name the collections that it reads from", "%s is a %s: it has no change stream", n, found[0].Type)
		return
	}
	f.warn("collections", "check the spelling; if it is made later, its documents are streamed", "there is no collection %s now", n)
}

func (s *source) validateCollection(ctx context.Context, c *mongo.Client, v server, info *collectionInfo, f *findings) {
	err := c.Database(info.name.db).Collection(info.name.coll).FindOne(ctx, bson.D{}, options.FindOne().SetProjection(bson.D{{Key: "_id", Value: 1}})).Err()
	if err != nil && !errors.Is(err, mongo.ErrNoDocuments) {
		f.err("collections", s.orFinal(fmt.Errorf("read %s: %w", info.name, err)))
	}
	if s.cfg.images == imagesLookup {
		return
	}
	if !info.images {
		f.warn("images", enableHint(info.name), "%s does not keep images; Forebay enables them at its start, if the user may", info.name)
	}
	if !v.splits() {
		f.warn("images", "MongoDB 6.0.9 and later split large events", "an update of a document of more than about 8 MB would end the source: its images and its changes do not fit into one event")
	}
}

// validateStream opens the change stream for a moment.
func (s *source) validateStream(ctx context.Context, c *mongo.Client, f *findings) {
	t := &task{source: s, client: c}
	at, err := now(ctx, c)
	if err == nil {
		t.pos.At = at
		err = t.openStream(ctx, true)
	}
	if err != nil {
		f.err("url", s.orFinal(fmt.Errorf("open a change stream: %w", err)))
		return
	}
	t.closeStream(ctx)
}

// validateOplog warns of a full oplog that reaches back for a short time only. Users who may not look
// at the oplog, most of them, get nothing.
func (s *source) validateOplog(ctx context.Context, c *mongo.Client, f *findings) {
	oplog := c.Database("local").Collection("oplog.rs")
	end := func(order int) (stamp, bool) {
		var entry struct {
			At bson.Timestamp `bson:"ts"`
		}
		o := options.FindOne().SetSort(bson.D{{Key: "$natural", Value: order}}).SetProjection(bson.D{{Key: "ts", Value: 1}})
		err := oplog.FindOne(ctx, bson.D{}, o).Decode(&entry)
		return stamp{entry.At.T, entry.At.I}, err == nil
	}
	first, ok := end(1)
	last, ok2 := end(-1)
	var stats struct {
		Size    float64 `bson:"size"`
		MaxSize float64 `bson:"maxSize"`
	}
	if !ok || !ok2 || c.Database("local").RunCommand(ctx, bson.D{{Key: "collStats", Value: "oplog.rs"}}).Decode(&stats) != nil {
		return
	}
	window := last.time().Sub(first.time())
	if window < shortOplog && stats.MaxSize > 0 && stats.Size > 0.9*stats.MaxSize {
		f.warn("url", "db.adminCommand({replSetResizeOplog: 1, minRetentionHours: 48})",
			"the oplog reaches back %s only: if Forebay stands still for longer, or the snapshot takes longer, changes are lost", window.Round(time.Minute))
	}
}
