package testenv

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

// HDFSCluster is an HDFS with a folder for one test.
type HDFSCluster struct {
	URL      string // hdfs://127.0.0.1:PORT/ROOT: the test's own folder
	NameNode string // host:port of its RPC
	WebHDFS  string // host:port of its HTTP
	Root     string // the test's folder, /t/…
	User     string // the superuser: who started it

	tb testing.TB
	c  *hdfsInstance // nil: shared, not to be killed
}

// hdfsInstance is one NameNode with its DataNodes, all under one folder.
type hdfsInstance struct {
	java, jars, dir string
	rpc, http       int
	datanodes       int
	ports           []int // rpc, http, then four for each DataNode
	running         map[string]process
}

const hadoopVersion = "3.4.1"

func (e *Env) newHDFS(ctx context.Context, dir string, datanodes int, ports []int) (*hdfsInstance, error) {
	// Hadoop 3.4 calls Subject.getSubject, which Java 24 took away.
	java, err := e.java(ctx, 11, 23)
	if err != nil {
		return nil, err
	}
	jars, err := e.mavenJars(ctx, "hdfs")
	if err != nil {
		return nil, err
	}
	if need := 2 + 4*datanodes; len(ports) != need {
		if ports, err = FreePorts(need); err != nil {
			return nil, err
		}
	}
	h := &hdfsInstance{java: java, jars: jars, dir: dir, datanodes: datanodes, ports: ports,
		rpc: ports[0], http: ports[1], running: map[string]process{}}
	for i := 0; i <= datanodes; i++ {
		if err := h.writeSite(i); err != nil {
			return nil, err
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "name", "current", "VERSION")); err == nil {
		return h, nil
	}
	e.logf("hdfs: formatting a NameNode")
	args := h.jvm(0, "org.apache.hadoop.hdfs.server.namenode.NameNode", "-format", "-force", "-nonInteractive")
	return h, run(ctx, dir, nil, java, args...)
}

func (h *hdfsInstance) conf(i int) string { return filepath.Join(h.dir, fmt.Sprintf("conf%d", i)) }

// jvm is the command line of a Hadoop class with the configuration of DataNode i (0: NameNode and clients).
func (h *hdfsInstance) jvm(i int, class string, args ...string) []string {
	// The jars carry no webapps folders, which both daemons look for on the class path: writeSite makes empty ones.
	return append([]string{"-XX:+UseSerialGC", "-Xmx512m", "-Djava.net.preferIPv4Stack=true",
		"--add-opens=java.base/java.lang=ALL-UNNAMED", "-Dhadoop.log.dir=" + h.dir,
		"-cp", h.conf(i) + ":" + filepath.Join(h.jars, "*"), class}, args...)
}

type hadoopProperty struct {
	Name  string `xml:"name"`
	Value string `xml:"value"`
}

func writeHadoopXML(file string, pairs ...string) error {
	var site struct {
		XMLName  xml.Name         `xml:"configuration"`
		Property []hadoopProperty `xml:"property"`
	}
	for i := 0; i < len(pairs); i += 2 {
		site.Property = append(site.Property, hadoopProperty{pairs[i], pairs[i+1]})
	}
	b, err := xml.MarshalIndent(site, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

func (h *hdfsInstance) writeSite(i int) error {
	dir := h.conf(i)
	for _, d := range []string{"webapps/hdfs", "webapps/datanode"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "log4j.properties"), recipe("log4j.properties"), 0o644); err != nil {
		return err
	}
	err := writeHadoopXML(filepath.Join(dir, "core-site.xml"),
		"fs.defaultFS", fmt.Sprintf("hdfs://127.0.0.1:%d", h.rpc),
		"hadoop.tmp.dir", filepath.Join(h.dir, "tmp"))
	if err != nil {
		return err
	}
	local := func(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
	pairs := []string{
		"dfs.namenode.name.dir", "file://" + filepath.Join(h.dir, "name"),
		"dfs.namenode.http-address", local(h.http),
		"dfs.namenode.rpc-bind-host", "127.0.0.1",
		"dfs.replication", strconv.Itoa(min(h.datanodes, 3)),
		"dfs.namenode.safemode.extension", "0",
		"dfs.namenode.safemode.min.datanodes", "1",
		// A dead DataNode is noticed in about 20 s instead of ten minutes.
		"dfs.heartbeat.interval", "1",
		"dfs.namenode.heartbeat.recheck-interval", "5000",
		"dfs.namenode.stale.datanode.interval", "5000",
		// Of three DataNodes one that happens to carry two transfers more than the others is not left out of a pipeline.
		"dfs.namenode.redundancy.considerLoad", "false",
		"dfs.namenode.datanode.registration.ip-hostname-check", "false",
	}
	if i > 0 {
		p := h.ports[2+4*(i-1):]
		pairs = append(pairs,
			"dfs.datanode.data.dir", "file://"+filepath.Join(h.dir, fmt.Sprintf("data%d", i)),
			"dfs.datanode.hostname", "127.0.0.1",
			"dfs.datanode.address", local(p[0]),
			"dfs.datanode.http.address", local(p[1]),
			"dfs.datanode.ipc.address", local(p[2]),
			"dfs.datanode.http.internal-proxy.port", strconv.Itoa(p[3]))
	}
	return writeHadoopXML(filepath.Join(dir, "hdfs-site.xml"), pairs...)
}

// startDaemon starts the NameNode (0) or DataNode i; it does not wait.
func (h *hdfsInstance) startDaemon(i int) (process, error) {
	name, class := "namenode", "org.apache.hadoop.hdfs.server.namenode.NameNode"
	if i > 0 {
		name, class = fmt.Sprintf("datanode%d", i), "org.apache.hadoop.hdfs.server.datanode.DataNode"
	}
	p, err := command{name: name, dir: h.dir, log: filepath.Join(h.dir, name+".log"),
		argv: append([]string{h.java}, h.jvm(i, class)...)}.start()
	if err == nil {
		h.running[name] = p
	}
	return p, err
}

// start starts everything and waits until every DataNode is in.
func (h *hdfsInstance) start(ctx context.Context) ([]process, error) {
	var ps []process
	for i := 0; i <= h.datanodes; i++ {
		p, err := h.startDaemon(i)
		if err != nil {
			return ps, err
		}
		ps = append(ps, p)
	}
	for _, p := range ps {
		if err := p.awaitUp(ctx, 100*time.Millisecond, func() bool { return h.live() >= h.datanodes }); err != nil {
			return ps, err
		}
	}
	return ps, nil
}

// live is the number of DataNodes that the NameNode counts on, -1 when it does not answer or is in safe mode.
func (h *hdfsInstance) live() int {
	var info struct{ Safemode string }
	var fs struct{ NumLiveDataNodes int }
	if !h.jmx("NameNodeInfo", &info) || info.Safemode != "" || !h.jmx("FSNamesystemState", &fs) {
		return -1
	}
	return fs.NumLiveDataNodes
}

func (h *hdfsInstance) jmx(bean string, into any) bool {
	client := http.Client{Timeout: 2 * time.Second}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/jmx?qry=Hadoop:service=NameNode,name=%s", h.http, bean))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var body struct{ Beans []json.RawMessage }
	return json.NewDecoder(resp.Body).Decode(&body) == nil && len(body.Beans) == 1 && json.Unmarshal(body.Beans[0], into) == nil
}

func (e *Env) upHDFS(ctx context.Context) (serviceState, error) {
	return e.up("hdfs", func(old serviceState) (serviceState, error) {
		dir := e.path("hdfs")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return serviceState{}, err
		}
		ports := old.Ports
		for _, p := range ports {
			if !portFree(p) {
				ports = nil
				break
			}
		}
		h, err := e.newHDFS(ctx, dir, 1, ports)
		if err != nil {
			return serviceState{}, err
		}
		e.logf("starting HDFS: a NameNode and a DataNode")
		ps, err := h.start(ctx)
		return serviceState{
			Version: hadoopVersion,
			Addresses: map[string]string{
				"url": fmt.Sprintf("hdfs://127.0.0.1:%d", h.rpc), "namenode": fmt.Sprintf("127.0.0.1:%d", h.rpc),
				"webhdfs": fmt.Sprintf("127.0.0.1:%d", h.http), "conf": h.conf(0), "jars": h.jars, "java": h.java,
			},
			Processes: ps,
			Ports:     h.ports,
		}, err
	})
}

// HDFS gives a fresh folder on the shared HDFS, which has one DataNode; it is removed at the end.
func HDFS(tb testing.TB) *HDFSCluster {
	tb.Helper()
	e, ctx := forTest(tb)
	s, err := e.upHDFS(ctx)
	must(tb, "HDFS", err)
	c := &HDFSCluster{NameNode: s.Addresses["namenode"], WebHDFS: s.Addresses["webhdfs"], tb: tb}
	c.fresh()
	return c
}

// fresh makes the test's folder.
func (c *HDFSCluster) fresh() {
	c.tb.Helper()
	c.User = currentUser()
	c.Root = "/t/" + randomName()
	c.URL = "hdfs://" + c.NameNode + c.Root
	cl := c.Client()
	must(c.tb, "HDFS folder", cl.MkdirAll(c.Root, 0o755))
	root := c.Root
	c.tb.Cleanup(func() {
		if c.c == nil {
			_ = cl.RemoveAll(root) // a leftover in a test's HDFS harms nobody
		}
	})
}

func currentUser() string {
	if os.Geteuid() == 0 {
		return "root"
	}
	return os.Getenv("USER")
}

// Client is a plain HDFS client for looking around in a test.
func (c *HDFSCluster) Client() *hdfs.Client {
	c.tb.Helper()
	cl, err := hdfs.NewClient(hdfs.ClientOptions{Addresses: []string{c.NameNode}, User: c.User})
	must(c.tb, "HDFS client", err)
	c.tb.Cleanup(func() { _ = cl.Close() }) // the test is over
	return cl
}

// NewHDFS starts an HDFS of the test's own with a number of DataNodes; files have as many replicas, at most 3.
func NewHDFS(tb testing.TB, datanodes int) *HDFSCluster {
	tb.Helper()
	e, ctx := forTest(tb)
	dir := e.private(tb, e.Dir, "hdfs")
	h, err := e.newHDFS(ctx, dir, datanodes, nil)
	must(tb, "HDFS", err)
	c := &HDFSCluster{NameNode: fmt.Sprintf("127.0.0.1:%d", h.rpc), WebHDFS: fmt.Sprintf("127.0.0.1:%d", h.http), tb: tb, c: h}
	tb.Cleanup(func() {
		for _, p := range h.running {
			_ = p.stop(syscall.SIGKILL, 10*time.Second) // the folder goes next
		}
	})
	ps, err := h.start(ctx)
	for _, p := range ps {
		must(tb, "HDFS", recordPrivate(dir, p))
	}
	must(tb, "start HDFS", err)
	c.fresh()
	return c
}

// KillDataNode ends DataNode i (from 1) with SIGKILL.
func (c *HDFSCluster) KillDataNode(i int) { c.tb.Helper(); c.kill(fmt.Sprintf("datanode%d", i)) }

// KillNameNode ends the NameNode with SIGKILL.
func (c *HDFSCluster) KillNameNode() { c.tb.Helper(); c.kill("namenode") }

func (c *HDFSCluster) kill(name string) {
	c.tb.Helper()
	c.own()
	must(c.tb, "kill "+name, c.c.running[name].stop(syscall.SIGKILL, 10*time.Second))
}

// StartDataNode starts DataNode i (from 1) again and waits until as many as run are in.
func (c *HDFSCluster) StartDataNode(i int) { c.tb.Helper(); c.startDaemon(i) }

// StartNameNode starts the NameNode again and waits until it has left safe mode.
func (c *HDFSCluster) StartNameNode() { c.tb.Helper(); c.startDaemon(0) }

func (c *HDFSCluster) startDaemon(i int) {
	c.tb.Helper()
	c.own()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p, err := c.c.startDaemon(i)
	must(c.tb, "start "+p.Name, err)
	must(c.tb, "start "+p.Name, recordPrivate(c.c.dir, p))
	want := 0
	for name, p := range c.c.running {
		if strings.HasPrefix(name, "datanode") && p.alive() {
			want++
		}
	}
	must(c.tb, "start "+p.Name, p.awaitUp(ctx, 100*time.Millisecond, func() bool { return c.c.live() >= want }))
}

// DataNodeLog is the log file of DataNode i (from 1).
func (c *HDFSCluster) DataNodeLog(i int) string {
	c.tb.Helper()
	c.own()
	return filepath.Join(c.c.dir, fmt.Sprintf("datanode%d.log", i))
}

// ReceivedBlocks are the files of the blocks that DataNode i (from 1) is receiving, or was receiving when it last died: who is in
// a file's pipeline shows here.
func (c *HDFSCluster) ReceivedBlocks(i int) []string {
	c.tb.Helper()
	c.own()
	blocks, err := filepath.Glob(filepath.Join(c.c.dir, fmt.Sprintf("data%d", i), "current", "BP-*", "current", "rbw", "blk_*"))
	must(c.tb, "blocks of a DataNode", err)
	return blocks
}

// DataNodeAddr is where DataNode i (from 1) takes blocks.
func (c *HDFSCluster) DataNodeAddr(i int) string {
	c.tb.Helper()
	c.own()
	return fmt.Sprintf("127.0.0.1:%d", c.c.ports[2+4*(i-1)])
}

func (c *HDFSCluster) own() {
	c.tb.Helper()
	if c.c == nil {
		c.tb.Fatal("testenv.HDFS is shared: use testenv.NewHDFS for one that a test may kill")
	}
}

// FsShell runs `hdfs dfs ARGS` with Hadoop's own Java client and returns what it printed.
func (c *HDFSCluster) FsShell(args ...string) string {
	c.tb.Helper()
	e, ctx := forTest(c.tb)
	s, err := e.state("hdfs")
	must(c.tb, "HDFS", err)
	h := c.c
	if h == nil {
		h = &hdfsInstance{java: s.Addresses["java"], jars: s.Addresses["jars"], dir: filepath.Dir(s.Addresses["conf"])}
	}
	cmd := exec.CommandContext(ctx, h.java, h.jvm(0, "org.apache.hadoop.fs.FsShell", args...)...)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		c.tb.Fatalf("hdfs dfs %v: %v\n%s", args, err, errOut.String())
	}
	return string(out)
}
