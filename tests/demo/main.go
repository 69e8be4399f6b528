// Command demo is the main job on real servers, for people: a small shop in
// PostgreSQL and two log files that keep being written, `forebay up` with
// configs/databases-and-logs-to-hdfs.yaml, and after a minute what lies in HDFS
// and what `forebay audit` says about it.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"github.com/jackc/pgx/v5"

	"github.com/forebayhub/forebay/internal/testenv"
)

var (
	binary   = flag.String("forebay", "bin/forebay", "the binary")
	duration = flag.Duration("for", time.Minute, "how long to keep writing")
	config   = flag.String("config", "configs/databases-and-logs-to-hdfs.yaml", "what to run")
)

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := demo(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context) error {
	env, err := testenv.Default(func(format string, args ...any) { fmt.Printf("   "+format+"\n", args...) })
	if err != nil {
		return err
	}
	say("servers: PostgreSQL and HDFS")
	if err := env.Up(ctx, "postgres", "hdfs"); err != nil {
		return err
	}
	pg, namenode, err := addresses(env)
	if err != nil {
		return err
	}
	run := time.Now().UTC().Format("20060102150405")
	dir := filepath.Join(env.Dir, "demo-"+run)
	logs := filepath.Join(dir, "logs")
	if err := os.MkdirAll(logs, 0o755); err != nil {
		return err
	}
	lake := namenode + "/demo-" + run
	if err := clean(ctx, pg); err != nil {
		return err
	}
	shop, err := newShop(ctx, pg, "shop_"+run)
	if err != nil {
		return err
	}

	say("forebay up %s", *config)
	variables := append(os.Environ(), "PG_URL="+shop, "HDFS_URL="+lake, "LOGS="+logs+"/*.log", "ROTATE=10s")
	node, err := start(variables, filepath.Join(dir, "data"), filepath.Join(dir, "forebay.log"))
	if err != nil {
		return err
	}
	defer node.cmd.Process.Kill() //nolint:errcheck // after a good end there is nothing left to kill

	say("writing to the database and to two log files for %v", *duration)
	writing, stopWriting := context.WithTimeout(ctx, *duration)
	defer stopWriting()
	changes, lines, err := write(writing, shop, logs)
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	say("wrote %d row changes and %d log lines; the audit waits until all of it is in HDFS, then compares", changes, lines)
	var bad error
	for _, sink := range []string{"lake", "logs"} {
		fmt.Printf("\n$ forebay audit %s %s\n", *config, sink)
		audit := exec.CommandContext(ctx, *binary, "audit", *config, sink, "--bootstrap", node.kafka, "--http", node.http)
		audit.Env, audit.Stdout, audit.Stderr = variables, os.Stdout, os.Stderr
		bad = errors.Join(bad, audit.Run())
	}
	fmt.Println()
	say("what lies in %s", lake)
	if err := list(lake); err != nil {
		return errors.Join(bad, err)
	}
	say("stopping; the data of this run stays in %s", dir)
	if err := node.stop(); err != nil {
		bad = errors.Join(bad, err)
	}
	return bad
}

func say(format string, args ...any) { fmt.Printf("== "+format+"\n", args...) }

func addresses(env *testenv.Env) (pg, namenode string, err error) {
	list, err := env.Status()
	if err != nil {
		return "", "", err
	}
	for _, s := range list {
		switch s.Name {
		case "postgres":
			pg = s.Addresses["url"]
		case "hdfs":
			namenode = strings.TrimSuffix(s.Addresses["url"], "/")
		}
	}
	if pg == "" || namenode == "" {
		return "", "", errors.New("the servers run, and nobody knows where: `make services-down`, then again")
	}
	return pg, namenode, nil
}

// clean drops what earlier demos left: their databases, and with each the slot, whose name is one per server.
func clean(ctx context.Context, admin string) error {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) //nolint:errcheck // the statements' own errors count
	// One whose DROP DATABASE was interrupted (datconnlimit -2) lets nobody in; it has no slot any more.
	rows, err := conn.Query(ctx, "SELECT datname, datconnlimit = -2 FROM pg_database WHERE datname ~ '^shop_[0-9]{14}$'")
	if err != nil {
		return err
	}
	var old, broken []string
	var name string
	var invalid bool
	if _, err := pgx.ForEachRow(rows, []any{&name, &invalid}, func() error {
		if invalid {
			broken = append(broken, name)
		} else {
			old = append(old, name)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, name := range broken {
		if _, err := conn.Exec(ctx, "DROP DATABASE "+name); err != nil {
			return err
		}
	}
	for _, name := range old {
		u, err := url.Parse(admin)
		if err != nil {
			return err
		}
		u.Path = "/" + name
		in, err := pgx.Connect(ctx, u.String())
		if err != nil {
			return err
		}
		_, err = in.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()")
		if err = errors.Join(err, in.Close(ctx)); err != nil {
			return fmt.Errorf("an earlier demo still runs on %s: %w", name, err)
		}
		if _, err := conn.Exec(ctx, "DROP DATABASE "+name); err != nil {
			return err
		}
	}
	return nil
}

// newShop makes a database and returns its URL.
func newShop(ctx context.Context, admin, name string) (string, error) {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+name)
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return "", err
	}
	u, err := url.Parse(admin)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	if conn, err = pgx.Connect(ctx, u.String()); err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, `
		CREATE TABLE customers (id bigint PRIMARY KEY, name text NOT NULL, email text, since timestamptz NOT NULL DEFAULT now());
		CREATE TABLE orders (id bigserial PRIMARY KEY, customer bigint NOT NULL, status text NOT NULL, total numeric(10,2) NOT NULL, items jsonb, at timestamptz NOT NULL DEFAULT now());
		INSERT INTO customers SELECT i, 'Customer ' || i, 'c' || i || '@example.com' FROM generate_series(1, 10000) i;
		INSERT INTO orders (customer, status, total, items) SELECT 1 + i % 10000, 'paid', i % 500 + 0.99, jsonb_build_array(i % 97) FROM generate_series(1, 50000) i;`)
	return u.String(), errors.Join(err, conn.Close(ctx))
}

// write changes the database and appends to two logs until ctx ends.
func write(ctx context.Context, shop, logs string) (changes, lines int, err error) {
	conn, err := pgx.Connect(context.WithoutCancel(ctx), shop)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // the changes are committed one by one
	var wg sync.WaitGroup
	var logErr error
	wg.Add(1)
	go func() {
		defer wg.Done()
		lines, logErr = writeLogs(ctx, logs)
	}()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for err == nil && ctx.Err() == nil {
		<-tick.C
		customer := 1 + rand.IntN(10000)
		statement, args := "INSERT INTO orders (customer, status, total, items) VALUES ($1, 'new', $2, '[1, 2]')", []any{customer, rand.IntN(50000)}
		switch changes % 5 {
		case 1, 2:
			statement, args = "UPDATE orders SET status = 'shipped' WHERE id = (SELECT max(id) - $1 FROM orders)", []any{rand.IntN(1000)}
		case 3:
			statement, args = "UPDATE customers SET email = 'new' || id || '@example.com' WHERE id = $1", []any{customer}
		case 4:
			statement, args = "DELETE FROM orders WHERE id = (SELECT min(id) FROM orders)", nil
		}
		if _, err = conn.Exec(context.WithoutCancel(ctx), statement, args...); err == nil {
			changes++
		}
	}
	wg.Wait()
	return changes, lines, errors.Join(err, logErr)
}

func writeLogs(ctx context.Context, dir string) (int, error) {
	var files []*os.File
	for _, name := range []string{"access.log", "app.log"} {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		files = append(files, f)
	}
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return n, nil
		case now := <-tick.C:
			if _, err := fmt.Fprintf(files[n%2], "%s request %d took %d ms\n", now.UTC().Format(time.RFC3339Nano), n, rand.IntN(300)); err != nil {
				return n, err
			}
		}
	}
}

type process struct {
	cmd         *exec.Cmd
	kafka, http string
	ended       chan error
}

// start runs forebay and waits for its ready line.
func start(env []string, data, log string) (*process, error) {
	stderr, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(*binary, "up", *config, "--data", data, "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
	cmd.Env, cmd.Stderr = env, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C reaches the demo first
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ended: make(chan error, 1)}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "ready kafka=%s http=%s", &p.kafka, &p.http); err == nil {
			fmt.Println("   " + lines.Text())
			go func() {
				_, _ = io.Copy(io.Discard, out) // until it ends
				p.ended <- cmd.Wait()
			}()
			return p, nil
		}
	}
	text, _ := os.ReadFile(log) // best effort: the error itself is said below
	return nil, fmt.Errorf("forebay ended before it was ready: %w\n%s", cmd.Wait(), text)
}

func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-p.ended:
		return err
	case <-time.After(time.Minute):
		return errors.New("forebay did not end within a minute of SIGTERM")
	}
}

// list prints the folders below lake with the number and size of their files.
func list(lake string) error {
	u, err := url.Parse(lake)
	if err != nil {
		return err
	}
	client, err := hdfs.New(u.Host)
	if err != nil {
		return err
	}
	defer client.Close()
	type sum struct {
		files int
		bytes int64
		last  string
	}
	folders := map[string]*sum{}
	var order []string
	err = client.Walk(u.Path, func(name string, info fs.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		dir := path.Dir(name)
		if strings.Contains(dir, "/_forebay") {
			return nil
		}
		if folders[dir] == nil {
			folders[dir] = &sum{}
			order = append(order, dir)
		}
		folders[dir].files++
		folders[dir].bytes += info.Size()
		folders[dir].last = info.Name()
		return nil
	})
	for _, dir := range order {
		fmt.Printf("   %s  %d files, %d bytes, the last %s\n", dir, folders[dir].files, folders[dir].bytes, folders[dir].last)
	}
	return err
}
