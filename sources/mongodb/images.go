package mongodb

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/schema"
)

func enableImages(n namespace) bson.D {
	return bson.D{{Key: "collMod", Value: n.coll}, {Key: "changeStreamPreAndPostImages", Value: bson.D{{Key: "enabled", Value: true}}}}
}

// enableHint is the same in mongosh.
func enableHint(n namespace) string {
	return fmt.Sprintf("in mongosh: use %s; db.runCommand({collMod: %q, changeStreamPreAndPostImages: {enabled: true}})", n.db, n.coll)
}

// keepImages makes a collection keep the images that the config asks for. Where the user may not, that is
// final if must is set.
func (t *task) keepImages(ctx context.Context, info *collectionInfo, must bool) error {
	if t.cfg.images == imagesLookup || info.images {
		return nil
	}
	err := t.client.Database(info.name.db).RunCommand(ctx, enableImages(info.name)).Err()
	if code(err) == codeUnauthorized && must {
		return connectors.Fatal(fmt.Errorf("images: %s needs changeStreamPreAndPostImages on %s, and the user may not enable it", t.cfg.images, info.name), enableHint(info.name))
	}
	if err != nil {
		return fmt.Errorf("enable images of %s: %w", info.name, err)
	}
	info.images = true
	t.env.Logger.Info("images enabled", "collection", info.name)
	return nil
}

// imageOf is the document after a change. An update whose image nobody has any more (it expired, or the
// collection did not keep images then) is given the document as it is now, which is what images: lookup does: what
// was changed in between follows. If the document is gone by now, its content is Missing, and its delete follows.
func (t *task) imageOf(ctx context.Context, b *connectors.Batch, c *collection, e *event, id schema.Value) (schema.Value, error) {
	doc := e.full
	if doc == nil && t.cfg.images != imagesLookup {
		if !c.warned {
			c.warned = true
			t.env.Logger.Warn("a change has no image; its document is looked up", "collection", c.name, "at", e.at)
		}
		var err error
		if doc, err = t.lookup(ctx, c.name, e.id, e.at); err != nil {
			return schema.Value{}, err
		}
	}
	if doc == nil {
		return row(b, id, schema.Missing), nil
	}
	content, err := t.texts.document(b, documentStyle, doc)
	if err != nil {
		return schema.Value{}, unreadable(c.name, err)
	}
	return row(b, id, content), nil
}

// lookup reads a document as a majority has it; nil when it is gone. It waits for a member that is behind the change:
// an older document than the event's would stand in the topic for ever.
func (t *task) lookup(ctx context.Context, n namespace, id bson.RawValue, at stamp) (bson.Raw, error) {
	session, err := t.client.StartSession(options.Session().SetCausalConsistency(true))
	if err != nil {
		return nil, err
	}
	defer session.EndSession(ctx)
	after := at.bson()
	if err := session.AdvanceOperationTime(&after); err != nil {
		return nil, err
	}
	coll := t.client.Database(n.db).Collection(n.coll, options.Collection().SetReadConcern(readconcern.Majority()))
	doc, err := coll.FindOne(mongo.NewSessionContext(ctx, session), bson.D{{Key: "_id", Value: id}}).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look a document of %s up: %w", n, err)
	}
	return doc, nil
}
