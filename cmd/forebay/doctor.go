package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/forebayhub/forebay/configs"
	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/internal/problem"
	"github.com/forebayhub/forebay/internal/vfs"
)

// verdict is one thing that doctor looked at.
type verdict struct {
	Check  string `json:"check"`
	State  string `json:"state"` // ok, warning, bad
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"`
}

func doctorCommand(s streams) *cobra.Command {
	c := &cobra.Command{Use: "doctor [FILE…]", Short: "Check this machine, and what the files reach, and say what to mend"}
	data := c.Flags().String("data", "./forebay-data", "the data directory that will be used")
	kafka := c.Flags().String("kafka", "127.0.0.1:9092", "the address that will be listened on")
	peer := c.Flags().String("peer", defaultPeer, "the address that will be listened on by a node of a cluster")
	gossip := c.Flags().String("gossip", defaultGossip, "the address that will be listened on by a node of a cluster, over TCP and UDP")
	http := c.Flags().String("http", "127.0.0.1:8080", "the address that will be listened on")
	c.RunE = func(c *cobra.Command, files []string) error {
		verdicts := machineVerdicts(*data)
		ports := []verdict{portVerdict("--kafka", *kafka), portVerdict("--peer", *peer), portVerdict("--gossip", *gossip), portVerdict("--http", *http)}
		if len(files) > 0 {
			more, err := connectorVerdicts(c.Context(), s, files)
			if err != nil {
				return err
			}
			verdicts = append(verdicts, more...)
		}
		if c.Flags().Changed("bootstrap") {
			more, reached, err := clusterVerdicts(c)
			if err != nil {
				return err
			}
			if node, here := reached[*kafka]; here {
				heldBy(ports, node)
			}
			verdicts = append(verdicts, more...)
		}
		verdicts = append(ports, verdicts...)
		bad := 0
		for _, v := range verdicts {
			if v.State == "bad" {
				bad++
			}
		}
		if wantsJSON(c) {
			if err := writeJSON(s.out, verdicts); err != nil {
				return err
			}
		} else {
			for _, v := range verdicts {
				fmt.Fprintf(s.out, "%-8s %s: %s\n", v.State, v.Check, v.Found)
				if v.Advice != "" {
					fmt.Fprintf(s.out, "         -> %s\n", v.Advice)
				}
			}
		}
		if bad > 0 {
			return &problem.Error{Code: "not-fit", Class: problem.Environment, What: fmt.Sprintf("%d of %d checks are bad", bad, len(verdicts))}
		}
		return nil
	}
	addJSON(c)
	addBootstrap(c)
	c.Flags().Lookup("bootstrap").Usage = "`HOST:PORT` of a cluster that is looked at, too"
	c.Flags().Lookup("bootstrap").DefValue = "[]" // what pflag shows no default for
	return c
}

func machineVerdicts(data string) []verdict {
	return []verdict{descriptorVerdict(), memoryVerdict(), diskVerdict(data), syncVerdict(data)}
}

// heldBy says of ports in use that a node which was reached at --kafka has them: it runs on this machine, and is meant to.
func heldBy(ports []verdict, node int32) {
	for i := range ports {
		if p := &ports[i]; p.State == "bad" && strings.HasSuffix(p.Found, unix.EADDRINUSE.Error()) {
			p.State, p.Found, p.Advice = "ok", fmt.Sprintf("held by node %d", node), ""
		}
	}
}

func descriptorVerdict() verdict {
	v := verdict{Check: "open files", State: "ok"}
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return verdict{Check: v.Check, State: "warning", Found: err.Error()}
	}
	v.Found = fmt.Sprintf("limit %d", l.Max)
	if l.Max < 10_000 {
		v.State, v.Advice = "warning", "raise it for many partitions or connections: ulimit -n 100000, or LimitNOFILE in the systemd unit"
	}
	return v
}

func memoryVerdict() verdict {
	v := verdict{Check: "machine", State: "ok", Found: fmt.Sprintf("%d cores", runtime.NumCPU())}
	if total := memory(); total > 0 {
		v.Found += fmt.Sprintf(", %d MiB of memory", total>>20)
		if total < 256<<20 {
			v.State, v.Advice = "warning", "256 MiB are a comfortable least"
		}
	}
	return v
}

// existing is the nearest folder above path that is there.
func existing(path string) string {
	for {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return path
		}
		up := filepath.Dir(path)
		if up == path {
			return path
		}
		path = up
	}
}

func diskVerdict(data string) verdict {
	v := verdict{Check: "disk of " + data, State: "ok"}
	free, _, err := vfs.Disk{}.Usage(data)
	if err != nil {
		return verdict{Check: v.Check, State: "bad", Found: err.Error(), Advice: "give --data a folder that can be made"}
	}
	v.Found = fmt.Sprintf("%d MiB free", free>>20)
	if free < 1<<30 {
		v.State, v.Advice = "warning", "less than 1 GiB: topics keep 7 days unless retention.bytes says less"
	}
	return v
}

// syncVerdict times what every acknowledged write in power-safe costs.
func syncVerdict(data string) verdict {
	v := verdict{Check: "fsync", State: "ok"}
	dir, err := os.MkdirTemp(existing(data), ".forebay-doctor-*")
	if err != nil {
		return verdict{Check: v.Check, State: "bad", Found: err.Error(), Advice: "the data directory must be writable"}
	}
	defer os.RemoveAll(dir)
	f, err := vfs.Disk{}.OpenFile(filepath.Join(dir, "probe"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return verdict{Check: v.Check, State: "bad", Found: err.Error()}
	}
	defer f.Close()
	const rounds = 20
	page := make([]byte, 4096)
	start := time.Now()
	for i := range rounds {
		if _, err := f.WriteAt(page, int64(i)*4096); err != nil {
			return verdict{Check: v.Check, State: "bad", Found: err.Error()}
		}
		if err := f.Sync(); err != nil {
			return verdict{Check: v.Check, State: "bad", Found: err.Error()}
		}
	}
	each := time.Since(start) / rounds
	v.Found = fmt.Sprintf("4 KiB write + fdatasync in %v", each.Round(10*time.Microsecond))
	if each > 20*time.Millisecond {
		v.State, v.Advice = "warning", "a slow disk for --durability power-safe: an SSD, or relaxed where a power cut may cost the last writes"
	}
	return v
}

func portVerdict(flag, addr string) verdict {
	v := verdict{Check: flag + " " + addr, State: "ok", Found: "free"}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return verdict{Check: v.Check, State: "bad", Found: err.Error(), Advice: "stop who listens there, or give another address; port 0 picks one"}
	}
	_ = l.Close() // it was only a probe
	if flag == "--gossip" {
		u, err := net.ListenPacket("udp", addr)
		if err != nil {
			return verdict{Check: v.Check, State: "bad", Found: err.Error(), Advice: "stop who listens there, or give another address; port 0 picks one"}
		}
		_ = u.Close()
	}
	return v
}

// connectorVerdicts asks every connector of the files to check what it reaches.
func connectorVerdicts(ctx context.Context, s streams, files []string) ([]verdict, error) {
	config, err := configs.Load(files, startingOptions(s))
	if err != nil {
		return nil, err
	}
	var out []verdict
	for _, c := range config.Connectors {
		findings, err := validate(ctx, config.Registry, c)
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("%s (%s)", c.Name, c.Type)
		if len(findings) == 0 {
			out = append(out, verdict{Check: name, State: "ok", Found: "reachable and fit"})
		}
		out = append(out, findingVerdicts(name, findings)...)
	}
	return out, nil
}

func connectorEnv(name string) connectors.Env {
	host, _ := os.Hostname() // "" is a name too: tail then runs anywhere
	return connectors.Env{Name: name, Group: defaultGroup, Host: host, Logger: quietLogger()}
}
