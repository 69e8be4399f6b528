package mongodb

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/forebayhub/forebay/connectors"
)

// bounds are the first and the last cluster time of a collection's runs.
func (c *collection) bounds() (first, last stamp) {
	for i, r := range c.pos.Runs {
		if i == 0 || r.At.compare(first) < 0 {
			first = r.At
		}
		last = later(last, r.At)
	}
	return first, last
}

// covered says that the snapshot holds what happened to a document at a cluster time: the
// document's run was read at that time or later.
func (t *task) covered(ctx context.Context, c *collection, id bson.RawValue, at stamp) (bool, error) {
	if c.pos.State != stateCopied {
		return false, nil
	}
	first, last := c.bounds()
	if at.compare(last) > 0 {
		return false, nil
	}
	if at.compare(first) <= 0 {
		return true, nil
	}
	for _, r := range c.pos.Runs {
		within := r.Upto == nil
		if !within {
			order, err := t.order(ctx, c, id, r.Upto.value)
			if err != nil {
				return false, err
			}
			within = order <= 0
		}
		if within {
			return at.compare(r.At) <= 0, nil
		}
	}
	return false, nil // a snapshot that is done has a last run without an end
}

// order compares two _id values as the collection's index does. Under a collation, and for rare types, the server is asked.
func (t *task) order(ctx context.Context, c *collection, a, b bson.RawValue) (int, error) {
	if !c.collated {
		if order, known := compareIDs(a, b); known {
			return order, nil
		}
	}
	info, err := describe(ctx, t.client, c.name)
	if err != nil {
		return 0, err
	}
	o := options.Aggregate()
	if info != nil && info.collation != nil {
		var collation options.Collation
		if err := bson.Unmarshal(info.collation, &collation); err != nil {
			return 0, connectors.Fatal(fmt.Errorf("the collation of %s: %w", c.name, err), "")
		}
		o.SetCollation(&collation)
	}
	literal := func(v bson.RawValue) bson.D { return bson.D{{Key: "$literal", Value: v}} }
	cur, err := t.client.Database(c.name.db).Aggregate(ctx, bson.A{
		bson.D{{Key: "$documents", Value: bson.A{bson.D{{Key: "c", Value: bson.D{{Key: "$cmp", Value: bson.A{literal(a), literal(b)}}}}}}}},
	}, o)
	if err != nil {
		return 0, fmt.Errorf("compare two _id values of %s: %w", c.name, err)
	}
	var out []struct{ C int }
	if err := cur.All(ctx, &out); err != nil || len(out) != 1 {
		return 0, fmt.Errorf("compare two _id values of %s: %w", c.name, err)
	}
	return out[0].C, nil
}

// passed ends the coverage of collections whose last run the stream has left behind.
func (t *task) passed(b *connectors.Batch) error {
	if t.covering == 0 {
		return nil
	}
	for _, c := range t.collections {
		if c.pos.State != stateCopied {
			continue
		}
		if _, last := c.bounds(); t.pos.At.compare(last) <= 0 {
			continue
		}
		t.covering--
		c.pos = collectionPosition{V: 1, State: stateDone, Gen: c.pos.Gen}
		if err := t.markCollection(b, c); err != nil {
			return err
		}
	}
	return nil
}
