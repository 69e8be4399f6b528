package mongodb

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/mongodriver"
)

const standaloneHint = `start mongod with --replSet rs0, then once in mongosh: rs.initiate(); a set of one member will do`

// closeTime bounds what a client says to the server when it goes.
const closeTime = 3 * time.Second

// server is what a connected server says of itself.
type server struct {
	version [3]int
	set     string // name of the replica set; "" behind a mongos
	mongos  bool
}

func (v server) atLeast(major, minor, patch int) bool {
	for i, want := range []int{major, minor, patch} {
		if v.version[i] != want {
			return v.version[i] > want
		}
	}
	return true
}

// splits says whether the server has $changeStreamSplitLargeEvent (SERVER-55062).
func (v server) splits() bool { return v.atLeast(6, 0, 9) }

// connect makes a client; it does no I/O but what its monitors do.
func (s *source) connect() (*mongo.Client, error) {
	c, err := mongo.Connect(mongodriver.Options(s.cfg.url, "forebay "+s.env.Name))
	if err != nil {
		return nil, connectors.Fatal(fmt.Errorf("url: %w", err), "")
	}
	return c, nil
}

func disconnect(c *mongo.Client) error {
	if c == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return c.Disconnect(ctx)
}

// identify asks what the server is and refuses what cannot be streamed from.
func identify(ctx context.Context, c *mongo.Client) (server, error) {
	var hello struct {
		Set string `bson:"setName"`
		Msg string `bson:"msg"`
	}
	if err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "hello", Value: 1}}).Decode(&hello); err != nil {
		return server{}, fmt.Errorf("reach the server: %w", err)
	}
	v := server{set: hello.Set, mongos: hello.Msg == "isdbgrid"}
	if v.set == "" && !v.mongos {
		return v, connectors.Fatal(fmt.Errorf("the server is a standalone one: only replica sets have change streams"), standaloneHint)
	}
	var build struct {
		Version string `bson:"version"`
	}
	if err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "buildInfo", Value: 1}}).Decode(&build); err != nil {
		return v, fmt.Errorf("ask the server's version: %w", err)
	}
	for i, part := range strings.SplitN(strings.SplitN(build.Version, "-", 2)[0], ".", 3) {
		v.version[i], _ = strconv.Atoi(part) // an odd version counts as 0
	}
	if !v.atLeast(6, 0, 0) {
		return v, connectors.Fatal(fmt.Errorf("the server is MongoDB %s; the source needs 6.0 or later", build.Version), "upgrade the server")
	}
	return v, nil
}

// setID is what tells a replica set from one that was made anew under the same name; "" when the user may not see it.
func setID(ctx context.Context, c *mongo.Client) string {
	var out struct {
		Config struct {
			Settings struct {
				ID bson.ObjectID `bson:"replicaSetId"`
			} `bson:"settings"`
		} `bson:"config"`
	}
	err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "replSetGetConfig", Value: 1}}).Decode(&out)
	if err != nil || out.Config.Settings.ID.IsZero() {
		return ""
	}
	return out.Config.Settings.ID.Hex()
}

// now is a cluster time at which everything that was acknowledged before the call has happened.
func now(ctx context.Context, c *mongo.Client) (stamp, error) {
	var out struct {
		At bson.Timestamp `bson:"operationTime"`
	}
	if err := c.Database("admin").RunCommand(ctx, bson.D{{Key: "ping", Value: 1}}).Decode(&out); err != nil {
		return stamp{}, fmt.Errorf("ask the cluster time: %w", err)
	}
	if out.At.IsZero() {
		return stamp{}, connectors.Fatal(fmt.Errorf("the server tells no cluster time"), standaloneHint)
	}
	return stamp{out.At.T, out.At.I}, nil
}

// collectionInfo is what listCollections says.
type collectionInfo struct {
	name      namespace
	uuid      string
	collation bson.Raw // nil: by bytes
	images    bool
}

// describe finds one collection; nil when there is none now.
func describe(ctx context.Context, c *mongo.Client, n namespace) (*collectionInfo, error) {
	all, err := listCollections(ctx, c, n.db, bson.D{{Key: "name", Value: n.coll}})
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return &all[0], nil
}

func listCollections(ctx context.Context, c *mongo.Client, db string, filter bson.D) ([]collectionInfo, error) {
	filter = append(filter, bson.E{Key: "type", Value: "collection"}) // neither views nor time series
	cur, err := c.Database(db).ListCollections(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("list the collections of %s: %w", db, err)
	}
	var out []collectionInfo
	for cur.Next(ctx) {
		var d struct {
			Name    string `bson:"name"`
			Options struct {
				Collation bson.Raw `bson:"collation"`
				Images    struct {
					Enabled bool `bson:"enabled"`
				} `bson:"changeStreamPreAndPostImages"`
			} `bson:"options"`
			Info struct {
				UUID bson.Binary `bson:"uuid"`
			} `bson:"info"`
		}
		if err := cur.Decode(&d); err != nil {
			return nil, fmt.Errorf("list the collections of %s: %w", db, err)
		}
		out = append(out, collectionInfo{name: namespace{db, d.Name}, uuid: fmt.Sprintf("%x", d.Info.UUID.Data),
			collation: d.Options.Collation, images: d.Options.Images.Enabled})
	}
	if err := cur.Err(); err != nil {
		return nil, fmt.Errorf("list the collections of %s: %w", db, err)
	}
	return out, cur.Close(ctx)
}

// find lists the collections that are there and that the config names.
func (s *source) find(ctx context.Context, c *mongo.Client) ([]collectionInfo, error) {
	dbs := []string{s.oneDatabase()}
	if dbs[0] == "" {
		var err error
		if dbs, err = s.databases(ctx, c); err != nil {
			return nil, err
		}
	}
	var out []collectionInfo
	for _, db := range dbs {
		all, err := listCollections(ctx, c, db, bson.D{})
		if err != nil {
			return nil, err
		}
		for _, info := range all {
			if s.matches(info.name) {
				out = append(out, info)
			}
		}
	}
	topics := map[string]namespace{}
	for _, info := range out {
		t := s.topic(info.name)
		if other, taken := topics[t]; taken {
			return nil, sharedTopic(other, info.name, t)
		}
		topics[t] = info.name
	}
	return out, nil
}

func sharedTopic(one, other namespace, topic string) error {
	return connectors.Fatal(fmt.Errorf("%s and %s would share the topic %s", one, other, topic), "name only one of them in collections")
}

func (s *source) databases(ctx context.Context, c *mongo.Client) (dbs []string, err error) {
	all, err := c.ListDatabaseNames(ctx, bson.D{})
	if err != nil {
		return nil, fmt.Errorf("list the databases: %w", err)
	}
	for _, db := range all {
		for i := range s.cfg.collections {
			if s.cfg.collections[i].db.MatchString(db) {
				dbs = append(dbs, db)
				break
			}
		}
	}
	return dbs, nil
}
