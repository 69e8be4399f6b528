package mongodb

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/sources/internal/cdc"
)

// auditBatch is how many bytes of documents Rows holds at a time.
const auditBatch = 1 << 20

// auditPoint is the collections as they were at one cluster time.
type auditPoint struct {
	*source
	client *mongo.Client
	at     stamp
	all    []collectionInfo
}

// Copying names a collection whose snapshot is not over.
func (s *source) Copying(positions map[connectors.PositionKey]connectors.Position) string {
	return cdc.Copying(positions, collectionPrefix)
}

// AuditPoint takes the present cluster time: the stream up to it and a read at it show the same. The
// server keeps that for minSnapshotHistoryWindowInSeconds, five minutes by default.
func (s *source) AuditPoint(ctx context.Context) (connectors.AuditPoint, error) {
	c, err := s.connect()
	if err != nil {
		return nil, err
	}
	a := &auditPoint{source: s, client: c}
	if _, err = identify(ctx, c); err == nil {
		if a.all, err = s.find(ctx, c); err == nil {
			a.at, err = now(ctx, c)
		}
	}
	if err != nil {
		_ = disconnect(c) // the first error is the one to tell
		return nil, s.orFinal(err)
	}
	return a, nil
}

// Positions: behind the point's last event, of which there may be several at the same time.
func (a *auditPoint) Positions() map[connectors.PositionKey]connectors.Position {
	return map[connectors.PositionKey]connectors.Position{
		streamKey: []byte(`{"v":1,"at":"` + a.at.next().String() + `"}`),
	}
}

func (a *auditPoint) Topics() []string {
	var out []string
	for _, info := range a.all {
		out = append(out, a.topic(info.name))
	}
	return out
}

// Rows yields a topic's documents, made as the task makes them. A record and its bytes are valid during fn only.
func (a *auditPoint) Rows(ctx context.Context, topic string, fn func(connectors.Record) error) error {
	for _, info := range a.all {
		if a.topic(info.name) == topic {
			if err := a.rows(ctx, info.name, fn); err != nil {
				return fmt.Errorf("read %s as of %s (a read may take as long as minSnapshotHistoryWindowInSeconds says): %w", info.name, a.at, err)
			}
			return nil
		}
	}
	return fmt.Errorf("the audit does not cover topic %s", topic)
}

func (a *auditPoint) rows(ctx context.Context, n namespace, fn func(connectors.Record) error) error {
	session, err := a.client.StartSession(options.Session().SetSnapshot(true).SetSnapshotTime(a.at.bson()))
	if err != nil {
		return err
	}
	defer session.EndSession(ctx)
	sctx := mongo.NewSessionContext(ctx, session)
	cur, err := a.client.Database(n.db).Collection(n.coll).Find(sctx, bson.D{})
	if err != nil {
		return err
	}
	defer func() { _ = cur.Close(sctx) }() // read to the end, or an error that is told
	t := &task{source: a.source, block: newBlock(a.env.Name)}
	c := &collection{name: n, shape: a.shape(n)}
	b := connectors.NewBatch(auditBatch)
	flush := func() error {
		for _, r := range b.Records {
			if err := fn(r); err != nil {
				return err
			}
		}
		b.Reset()
		return nil
	}
	for cur.Next(sctx) {
		if err := t.addDocument(b, c, cur.Current.Lookup("_id"), cur.Current, a.at); err != nil {
			return err
		}
		if b.Full() {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := cur.Err(); err != nil {
		return err
	}
	return flush()
}

func (a *auditPoint) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return a.client.Disconnect(ctx)
}

var _ connectors.SnapshotSource = (*source)(nil)
