// Package broker composes a node out of the rooms of core and owns every
// long-lived goroutine of it. It can be embedded as a library.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/forebayhub/forebay/core/commitlog"
	"github.com/forebayhub/forebay/core/consensus"
	"github.com/forebayhub/forebay/core/controller"
	"github.com/forebayhub/forebay/core/group"
	"github.com/forebayhub/forebay/core/membership"
	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/server"
	"github.com/forebayhub/forebay/core/txn"
	"github.com/forebayhub/forebay/internal/loglevel"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/tlsdir"
	"github.com/forebayhub/forebay/internal/vfs"
)

// Options make a node. The zero value, with a DataDir, works on a laptop.
type Options struct {
	NodeID     metadata.NodeID // 0: node.id of Set, else 1
	DataDir    string
	KafkaAddr  string // host:port; "": listeners of Set, else 127.0.0.1:9092; port 0 picks one
	Durability commitlog.Durability
	Set        map[string]string // Kafka broker properties
	FS         vfs.FS            // nil: the disk
	Logger     *slog.Logger      // nil: silent
	Loggers    *loglevel.Loggers // with Rooms, of a process that has more of them; nil: the node's own, over Logger
	// BootID names the run of the machine: it tells a killed process from a lost page cache (invariant 4).
	// "": /proc/sys/kernel/random/boot_id.
	BootID string
	// TLSDir is the folder of this node's certificate (internal/tlsdir). With it the peers' port and gossip are closed to who has none, and
	// listeners for clients have it where they have no other. "": there is none.
	TLSDir string
	// Cluster makes this node one of several. Nil: it is alone.
	Cluster *Cluster
}

// Broker is a running node.
type Broker struct {
	o       Options
	loggers *loglevel.Loggers // of the rooms
	// listeners are those of Kafka clients; the first is also the other nodes'.
	listeners []*listener
	approach  approach    // to the other nodes
	secrets   *tlsdir.Dir // nil: Options.TLSDir is ""
	dir       *dataDir
	logDirs   *logDirs
	quorum    *consensus.Quorum
	control   *controller.Controller
	replicas  *replica.Set
	groups    *group.Coordinator
	txns      *txn.Coordinator
	peers     *peers
	server    *server.Server
	doors     []server.Listener

	ready    chan struct{}
	failed   chan struct{} // closed once failure is set
	failOnce sync.Once
	failure  error

	dialing  sync.Mutex     // whoever dials while the node ends is waited for or refused
	dialed   sync.WaitGroup // in-memory connections being served
	serving  context.Context
	stopDial context.CancelFunc

	ran       commitlog.Durability // of the runs before
	recovered bool                 // the logs are
	closeOnce sync.Once
	closeErr  error

	// Of a node that is one of several; nil or zero in one that is alone.
	links     *consensus.Peers
	members   *membership.List
	active    *controller.Active
	early     errgroup.Group // goroutines that work before Run; they end with serving
	clusterID text           // and the restoration, as Image.Identity; "" as long as the node belongs to no cluster
	epoch     atomic.Int64   // of this node's registration
	leaving   atomic.Bool
	agreed    atomic.Pointer[metadata.Image] // for gossip, which begins before there is a quorum
}

// text is a string that several goroutines share.
type text struct{ v atomic.Value }

func (t *text) Load() string   { s, _ := t.v.Load().(string); return s }
func (t *text) Store(s string) { t.v.Store(s) }

// Rooms are the names of a node's loggers, beside loglevel.Root.
var Rooms = []string{"server", "group", "txn", "replica", "controller", "consensus", "membership"}

// openTimeout bounds the wait for the metadata quorum. Alone it takes well under a second.
const openTimeout = 30 * time.Second

// Open locks the data directory, recovers and listens; Run serves. An error
// that the user can mend is a *problem.Error. A Broker that is not Run must be Closed.
func Open(ctx context.Context, o Options) (*Broker, error) {
	o, listeners, err := o.resolve()
	if err != nil {
		return nil, err
	}
	var secrets *tlsdir.Dir
	if o.TLSDir != "" {
		if secrets, err = tlsdir.Open(o.TLSDir, o.Logger); err != nil {
			return nil, err
		}
	}
	for _, l := range listeners {
		l.secrets, l.logger = secrets, o.Logger
	}
	loggers := o.Loggers
	if loggers == nil {
		loggers = loglevel.New(o.Logger, Rooms...)
	}
	o.Logger = loggers.Logger(loglevel.Root)
	b := &Broker{o: o, loggers: loggers, listeners: listeners, secrets: secrets, ready: make(chan struct{}), failed: make(chan struct{})}
	b.serving, b.stopDial = context.WithCancel(context.Background())
	if err := b.open(ctx); err != nil {
		if cerr := b.close(false); cerr != nil {
			o.Logger.Debug("closing after a failed start", "err", cerr)
		}
		return nil, err
	}
	return b, nil
}

// resolve fills in defaults and checks what contradicts.
func (o Options) resolve() (Options, []*listener, error) {
	if o.FS == nil {
		o.FS = vfs.Disk{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := controller.CheckStatic(o.Set); err != nil {
		return o, nil, err
	}
	if o.BootID == "" {
		o.BootID = bootID()
	}
	for _, key := range []string{"node.id", "broker.id"} {
		v, ok := o.Set[key]
		if !ok {
			continue
		}
		n, _ := strconv.ParseInt(v, 10, 32) // CheckStatic has looked at it
		if o.NodeID != 0 && metadata.NodeID(n) != o.NodeID {
			return o, nil, contradiction(key, v, fmt.Sprintf("node id %d", o.NodeID))
		}
		o.NodeID = metadata.NodeID(n)
	}
	if o.NodeID == 0 {
		o.NodeID = 1
	}
	if o.Cluster != nil {
		o.Cluster = o.Cluster.withDefaults()
	}
	o.Set = o.withSecrets()
	if dirs := o.logDirs(); o.DataDir == "" && len(dirs) > 0 {
		o.DataDir = dirs[0] // as Kafka's metadata.log.dir
	}
	if o.DataDir == "" {
		return o, nil, &problem.Error{Code: "no-data-directory", Class: problem.Input, What: "no data directory", Hint: "give one with --data"}
	}
	listeners, err := o.listeners()
	return o, listeners, err
}

// logDirs are the paths of log.dirs, or of its old name; nil: it is not given.
func (o Options) logDirs() []string {
	if v, ok := o.Set["log.dirs"]; ok {
		return splitDirs(v)
	}
	return splitDirs(o.Set["log.dir"])
}

func contradiction(key, value, other string) error {
	return &problem.Error{
		Code: "contradiction", Class: problem.Input, Where: "--set " + key,
		What: fmt.Sprintf("%s=%s contradicts %s", key, value, other), Hint: "give one of them",
	}
}

func (b *Broker) open(ctx context.Context) error {
	wait := openTimeout
	if b.o.Cluster != nil {
		wait = joinTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var err error
	if b.dir, err = openDataDir(b.o.FS, b.o.DataDir, b.o.NodeID, b.o.Cluster != nil, b.o.Logger); err != nil {
		return err
	}
	if err := b.begin(); err != nil {
		return err
	}
	b.clusterID.Store(b.dir.meta.identity())
	// Bound early, so that a port in use is told before anything is recovered; served only once all is.
	if err := b.listen(ctx); err != nil {
		return err
	}
	if b.secrets != nil {
		b.early.Go(func() error { b.tellExpiry(b.serving); return nil })
		b.early.Go(func() error { b.closeRevoked(b.serving); return nil })
	}
	if b.o.Cluster != nil {
		if b.approach, err = b.listeners[0].approach(); err != nil {
			return err
		}
	}
	if b.o.Cluster != nil {
		if err := b.openPeers(ctx); err != nil {
			return err
		}
	}
	var opened func(uint64) error
	if b.o.Cluster != nil {
		opened = b.join
	}
	b.quorum, err = consensus.Open(consensus.Options{
		Opened: opened, Forgot: b.dir.forgot(),
		FS: b.o.FS, Dir: b.dir.path("raft"), NodeID: b.o.NodeID, Peers: b.links, Logger: b.loggers.Logger("consensus"),
		Failed: func(err error) { b.fail(metadataProblem(b.dir.path("raft"), fmt.Errorf("metadata: %w", err))) },
	})
	if err != nil {
		return metadataProblem(b.dir.path("raft"), err)
	}
	b.quorum.Follow(b.agreed.Store)
	b.control = controller.New(controller.Options{Quorum: b.quorum, NodeID: b.o.NodeID, Static: b.static(), Logger: b.loggers.Logger("controller")})
	if b.o.Cluster == nil {
		err = b.joinAlone(ctx)
	} else {
		err = b.joinCluster(ctx)
	}
	if err != nil {
		return err
	}
	if err := b.openLogDirs(); err != nil {
		return err
	}
	if b.o.Cluster == nil {
		if err := b.registerAlone(ctx); err != nil {
			return err
		}
		if err := b.dir.joined(); err != nil { // it was one of several before
			return err
		}
	}
	if err := b.recoverLogs(); err != nil {
		return err
	}
	if b.o.Cluster != nil {
		if err := b.register(ctx); err != nil {
			return err
		}
	}
	b.settled()
	b.quorum.Follow(b.replicas.Update)
	b.replicas.Trust()
	b.early.Go(func() error { b.tellOffline(b.serving); return nil })
	return b.wire()
}

// begin finds out what the runs before promised, and writes down what this one does not, before its first record.
func (b *Broker) begin() error {
	b.ran = b.dir.ran(b.o.Durability)
	if b.o.Durability == commitlog.PowerSafe {
		return nil
	}
	err := b.dir.setDurability(b.o.Durability)
	if noRoom(err) {
		b.o.Logger.Warn("the disk is full: it could not be written down that this run is relaxed, so it is power-safe", "dir", b.o.DataDir)
		b.o.Durability, err = commitlog.PowerSafe, nil
	}
	return err
}

// settled writes down that this run promises all that power-safe does: what earlier ones have left is on the disk, and the cluster knows what may be missing.
func (b *Broker) settled() {
	if b.logDirs.placement == nil {
		b.logDirs.failed("", false)
	}
	if slices.ContainsFunc(b.logDirs.dirs, func(d *replica.Dir) bool { return !d.Recovered() }) {
		return
	}
	if n := b.quorum.Image().Nodes[b.o.NodeID]; b.o.Durability != commitlog.PowerSafe || n == nil || n.BootID != b.o.BootID {
		return
	}
	if err := b.dir.setDurability(commitlog.PowerSafe); err != nil {
		b.o.Logger.Warn("it could not be written down that this run is power-safe: after a power cut its replicas copy what they may have lost", "err", err)
	}
}

// tailLost says that this node may have lost what it had when it last registered: only a killed process keeps its page cache (invariant 4), and in it may be what
// a failed sync has not brought to the disk. With log.dirs that is told of the directory.
func (b *Broker) tailLost(before *metadata.Node) bool {
	if b.logDirs.placement == nil && b.logDirs.dirs[0].Suspect {
		return true
	}
	return !b.logDirs.clean() && b.ran == commitlog.Relaxed && before.BootID != b.o.BootID
}

// openLogDirs opens the log directories, and makes the set of partitions, without a look at what lies in them.
func (b *Broker) openLogDirs() (err error) {
	stop := func(where string) func(error) {
		return func(err error) {
			b.fail(&problem.Error{Code: "disk-failed", Where: where, What: "a write or a sync to disk failed; what was not synced may be lost, so this node stops: " + err.Error(), Hint: "look at the disk and the kernel's log", Err: err})
		}
	}
	if b.logDirs, err = openLogDirs(b.dir, b.o.logDirs(), b.o.Logger, stop(b.o.DataDir)); err != nil {
		return err
	}
	if err := b.logDirs.check(b.quorum.Image()); err != nil {
		return err
	}
	for _, d := range b.logDirs.dirs {
		d.Syncer = commitlog.NewSyncer(0, func(err error) { b.replicas.Fail(d, err) })
	}
	segments, _ := descriptors()
	o := replica.Options{
		Files: commitlog.NewFiles(segments), NodeID: b.o.NodeID, FS: b.o.FS, Dirs: b.logDirs.dirs, Placement: b.logDirs.placement,
		Replaced: b.logDirs.replaced(), Failed: func(d *replica.Dir, _ error) {
			b.early.Go(func() error { b.logDirs.failed(d.ID, true); return nil }) // at once: this process may come to no good end
		},
		AllFailed:  stop(b.o.DataDir),
		Durability: b.o.Durability, Ran: b.ran, Logger: b.loggers.Logger("replica"), BootID: b.o.BootID,
		Settings: b.control.Settings, ProducerExpiry: b.control.Duration("producer.id.expiration.ms"),
	}
	if b.o.Cluster != nil {
		o.Watermarks = b.dir.path("high-watermarks")
		o.Following = b.following()
		o.Throttling = replica.Throttling{Rates: b.control.ReplicationRates, Window: b.quotaWindow("replication.")}
	}
	b.replicas = replica.New(o)
	return nil
}

// recoverLogs opens the logs, as the Image says.
func (b *Broker) recoverLogs() error {
	start := time.Now()
	if err := b.replicas.Start(b.quorum.Image()); err != nil {
		return fmt.Errorf("recover logs: %w", err)
	}
	b.recovered = true
	b.o.Logger.Debug("logs recovered", "clean", b.logDirs.clean(), "took", time.Since(start))
	return nil
}

// metadataProblem says what to do about raft files that cannot be read: never to delete them.
func metadataProblem(dir string, err error) error {
	switch {
	case errors.Is(err, consensus.ErrCorrupt), errors.Is(err, metadata.ErrCorrupt):
		return &problem.Error{
			Code: "metadata-corrupt", Class: problem.Environment, Where: dir, What: err.Error(), Err: err,
			Hint: "nothing was changed; restore the folder from a copy: without it the logs have no topics",
		}
	case errors.Is(err, consensus.ErrVersion), errors.Is(err, metadata.ErrVersion):
		return &problem.Error{
			Code: "newer-data", Class: problem.Environment, Where: dir, What: err.Error(), Err: err,
			Hint: "start the newer version of forebay that wrote it",
		}
	}
	return fmt.Errorf("%s: %w", dir, err)
}

// static are the broker properties with what the flags say.
func (b *Broker) static() map[string]string {
	m := map[string]string{}
	for k, v := range b.o.Set {
		m[k] = v
	}
	id := strconv.Itoa(int(b.o.NodeID))
	m["node.id"], m["broker.id"] = id, id
	dirs := b.o.logDirs()
	if dirs == nil {
		dirs = []string{b.o.DataDir}
	}
	m["log.dirs"], m["log.dir"] = strings.Join(dirs, ","), strings.Join(dirs, ",")
	var at []string
	for _, l := range b.listeners {
		at = append(at, l.name+"://"+l.l.Addr().String())
	}
	m["listeners"] = strings.Join(at, ",")
	return m
}

// joinAlone waits for the metadata quorum of this one node.
func (b *Broker) joinAlone(ctx context.Context) error {
	if err := b.quorum.Ready(ctx); err != nil {
		return fmt.Errorf("wait for the metadata quorum: %w", err)
	}
	image := b.quorum.Image()
	if id := image.Identity(); id != "" && id != b.dir.meta.identity() {
		return b.foreignProblem(id)
	}
	return nil
}

// registerAlone registers the only node, which gives every partition that it leads a new leader epoch.
func (b *Broker) registerAlone(ctx context.Context) error {
	image := b.quorum.Image()
	host, port, endpoints := b.reached()
	before := image.Nodes[b.o.NodeID]
	commands := []metadata.Command{}
	if image.ClusterID == "" {
		commands = append(commands,
			&metadata.SetClusterID{ID: b.dir.meta.ClusterID},
			&metadata.SetFeatures{Levels: map[string]int16{"transaction.version": 2}})
	}
	if image.Features[metadata.FeatureELR] == 0 {
		commands = append(commands, &metadata.SetFeatures{Levels: map[string]int16{metadata.FeatureELR: 1}})
	}
	commands = append(commands, &metadata.RegisterNode{
		ID: b.o.NodeID, Host: host, Port: port, Rack: b.o.Set["broker.rack"], BootID: b.o.BootID, Endpoints: endpoints, Offline: b.replicas.Unavailable(image),
		MinISR: b.control.MinISR(), Level: metadata.Level,
		TailLost: before != nil && b.tailLost(before),
	})
	for _, c := range commands {
		r, err := b.quorum.Propose(ctx, c)
		if err == nil {
			err = r.Err
		}
		if errors.Is(err, consensus.ErrDiskFull) && before != nil {
			// A full disk must not keep what is stored from being read (invariant 11); the old registration stands.
			b.o.Logger.Error("the disk is full: serving without a new registration", "err", err)
			continue
		}
		if err != nil {
			return b.registerProblem(err)
		}
	}
	return nil
}

// registerProblem says why this node is not taken in.
func (b *Broker) registerProblem(err error) error {
	if errors.Is(err, metadata.ErrRemovedNode) {
		return b.removedProblem()
	}
	if errors.Is(err, metadata.ErrLevel) {
		return &problem.Error{Code: "older-than-cluster", Class: problem.Environment, Where: fmt.Sprintf("node %d", b.o.NodeID), What: err.Error(), Err: err,
			Hint: "start here the version that the other nodes run, or a newer one; docs/operations.md has the rule"}
	}
	return fmt.Errorf("register node %d: %w", b.o.NodeID, err)
}

// fail ends Run with err; the first one counts.
func (b *Broker) fail(err error) {
	b.failOnce.Do(func() {
		b.failure = err
		close(b.failed)
	})
}

// Ready is closed once requests are served in full: this node leads what it should.
func (b *Broker) Ready() <-chan struct{} { return b.ready }

// KafkaAddr is the real listening address; with several listeners that of the one which the other nodes use.
func (b *Broker) KafkaAddr() string { return b.listeners[0].l.Addr().String() }

// ClusterID is the cluster's id, as clients see it.
func (b *Broker) ClusterID() string { return b.dir.meta.ClusterID }
