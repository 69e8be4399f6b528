package metadata

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
)

var update = flag.Bool("update", false, "rewrite the transcripts in testdata")

// TestTranscripts runs testdata/*.txt: a command, "----", and what it came to, up to an
// empty line. Every command goes through its encoding, every image through its snapshot.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			in, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got := replay(t, string(in))
			if *update {
				if err := os.WriteFile(f, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != string(in) {
				t.Errorf("%s differs; got:\n%s\nRun with -update and read the diff.", f, got)
			}
		})
	}
}

func replay(t *testing.T, text string) string {
	image := NewImage()
	var out strings.Builder
	for _, block := range strings.Split(strings.TrimRight(text, "\n"), "\n\n") {
		head, _, _ := strings.Cut(block, "\n----")
		for _, line := range strings.Split(head, "\n") {
			out.WriteString(line + "\n")
		}
		lines := strings.Split(head, "\n")
		last := lines[len(lines)-1]
		if strings.HasPrefix(last, "#") {
			out.WriteString("\n")
			continue
		}
		out.WriteString("----\n")
		var result string
		if image, result = step(t, image, last); result != "" {
			out.WriteString(result)
		}
		out.WriteString("\n")
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

func step(t *testing.T, image *Image, line string) (*Image, string) {
	verb, args := parseLine(t, line)
	if verb == "show" {
		return image, show(image)
	}
	c := args.command(t, verb)
	b := Encode(c)
	c, err := Decode(b)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	before := EncodeImage(image)
	next, r := Apply(image, image.Index+1, c)
	if !bytes.Equal(before, EncodeImage(image)) {
		t.Fatalf("%s: Apply changed the image it was given", line)
	}
	again, err := DecodeImage(EncodeImage(next))
	if err != nil {
		t.Fatalf("%s: snapshot: %v", line, err)
	}
	if show(again) != show(next) || !bytes.Equal(EncodeImage(again), EncodeImage(next)) {
		t.Fatalf("%s: the snapshot differs:\n%s\n%s", line, show(next), show(again))
	}
	var out strings.Builder
	if r.Err != nil {
		fmt.Fprintf(&out, "error: %v\n", r.Err)
	}
	for n, e := range r.Errs {
		if e != nil {
			fmt.Fprintf(&out, "%d: %v\n", n, e)
		}
	}
	switch c.(type) {
	case *RegisterNode:
		fmt.Fprintf(&out, "epoch %d\n", r.Epoch)
	case *AllocateProducerIDs:
		fmt.Fprintf(&out, "first %d\n", r.First)
	}
	if out.Len() == 0 {
		return again, "ok\n"
	}
	return again, out.String()
}

type lineArgs map[string]string

func parseLine(t *testing.T, line string) (string, lineArgs) {
	fields := strings.Fields(line)
	args := lineArgs{}
	for _, f := range fields[1:] {
		k, v, ok := strings.Cut(f, "=")
		if !ok {
			t.Fatalf("%q: no '='", line)
		}
		args[k] = v
	}
	return fields[0], args
}

func (a lineArgs) int(k string) int {
	n, _ := strconv.Atoi(a[k])
	return n
}

// nodes reads 1,2,3.
func nodes(s string) (list []NodeID) {
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) {
		n, _ := strconv.Atoi(f)
		list = append(list, NodeID(n))
	}
	return list
}

// assignment reads 1,2/2,3.
func assignment(s string) (list [][]NodeID) {
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == '/' }) {
		list = append(list, nodes(f))
	}
	return list
}

// testID makes an id out of a letter: readable transcripts.
func testID(s string) (id TopicID) {
	if s == "" {
		return id
	}
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(s))
}

func pairs(s string) map[string]string {
	m := map[string]string{}
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ';' }) {
		k, v, _ := strings.Cut(f, ":")
		m[k] = v
	}
	return m
}

func (a lineArgs) command(t *testing.T, verb string) Command {
	switch verb {
	case "register":
		return &RegisterNode{ID: NodeID(a.int("id")), Host: a["host"], Port: int32(a.int("port")), Rack: a["rack"], BootID: a["boot"], TailLost: a["taillost"] == "yes", Endpoints: endpoints(a["at"]), Offline: partitionIDs(a["off"]),
			MinISR: int32(a.int("min")), Empty: a["empty"] == "yes"}
	case "create":
		c := &CreateTopics{}
		for _, name := range strings.Split(a["topic"], "+") {
			id := a["id"]
			if id == "" {
				id = name
			}
			c.Topics = append(c.Topics, TopicSpec{Name: name, ID: testID(id), Internal: strings.HasPrefix(name, "__"), Assignment: assignment(a["on"]), Configs: pairs(a["configs"])})
		}
		return c
	case "delete":
		c := &DeleteTopics{}
		for _, id := range strings.Split(a["id"], "+") {
			c.IDs = append(c.IDs, testID(id))
		}
		return c
	case "partitions":
		return &CreatePartitions{Topic: testID(a["id"]), From: int32(a.int("from")), Assignment: assignment(a["on"])}
	case "change":
		return &ChangePartition{
			Topic: testID(a["id"]), Number: int32(a.int("n")), Expected: Epoch(a.int("epoch")),
			Leader: NodeID(a.int("leader")), ISR: nodes(a["isr"]), Replicas: nodes(a["replicas"]), NewEpoch: a["new"] == "yes",
		}
	case "configs":
		c := &AlterConfigs{Broker: a["broker"] != "", Name: a["topic"], Set: pairs(a["set"])}
		if c.Broker {
			c.Name = strings.Trim(a["broker"], "*")
		}
		if a["delete"] != "" {
			c.Delete = strings.Split(a["delete"], ";")
		}
		return c
	case "groupconfigs":
		c := &AlterGroupConfigs{Group: a["group"], Set: pairs(a["set"])}
		if a["delete"] != "" {
			c.Delete = strings.Split(a["delete"], ";")
		}
		return c
	case "producerids":
		return &AllocateProducerIDs{Node: 1, Count: int32(a.int("count"))}
	case "features":
		c := &SetFeatures{Levels: map[string]int16{}}
		for k, v := range pairs(a["set"]) {
			n, _ := strconv.Atoi(v)
			c.Levels[k] = int16(n)
		}
		return c
	case "fence":
		return &FenceNode{ID: NodeID(a.int("id")), Epoch: int64(a.int("epoch"))}
	case "unregister":
		return &UnregisterNode{ID: NodeID(a.int("id"))}
	case "readmit":
		return &ReadmitNode{ID: NodeID(a.int("id"))}
	case "offline": // offline node=1 epoch=3 off=a:0,a:1 on=b:2
		return &SetOffline{Node: NodeID(a.int("node")), NodeEpoch: int64(a.int("epoch")), Offline: partitionIDs(a["off"]), Online: partitionIDs(a["on"])}
	case "isr": // isr id=a n=0 leader=1@3 epoch=0/1 isr=1@3,2@4
		change := ISRChange{Topic: testID(a["id"]), Number: int32(a.int("n"))}
		lead := registrations(a["leader"])[0]
		change.Leader, change.NodeEpoch = lead.ID, lead.Epoch
		le, pe, _ := strings.Cut(a["epoch"], "/")
		change.LeaderEpoch, change.PartitionEpoch = Epoch(lineArgs{"n": le}.int("n")), Epoch(lineArgs{"n": pe}.int("n"))
		change.ISR = registrations(a["isr"])
		return &AlterPartition{Changes: []ISRChange{change}}
	case "reassign": // reassign id=a n=0 to=1,2 keep=yes; to=- cancels
		r := Reassignment{Topic: testID(a["id"]), Number: int32(a.int("n")), Replicas: nodes(a["to"]), KeepFactor: a["keep"] == "yes"}
		if a["to"] == "-" {
			r.Replicas, r.Cancel = nil, true
		}
		return &ReassignPartitions{Changes: []Reassignment{r}}
	case "quota": // quota user=a client=* set=producer_byte_rate:1024 remove=consumer_byte_rate
		var e QuotaEntity
		for k, n := range map[string]*QuotaName{"user": &e.User, "client": &e.ClientID, "ip": &e.IP} {
			if v, ok := a[k]; ok {
				*n = QuotaName{true, strings.Trim(v, "*")}
			}
		}
		c := &AlterQuotas{}
		set := pairs(a["set"])
		for _, k := range slices.Sorted(maps.Keys(set)) {
			v, _ := strconv.ParseFloat(set[k], 64)
			c.Changes = append(c.Changes, QuotaChange{Entity: e, Key: k, Value: v})
		}
		if k := a["remove"]; k != "" {
			c.Changes = append(c.Changes, QuotaChange{Entity: e, Key: k, Remove: true})
		}
		return c
	case "acl": // acl add=User:a/topic-x+… remove=…
		return &AlterACLs{Add: acls(a["add"]), Remove: acls(a["remove"])}
	case "scram": // scram set=alice/1 remove=bob/2
		c := &AlterScram{Set: map[ScramUser]ScramCredential{}}
		for _, u := range scramUsers(a["set"]) {
			c.Set[u] = ScramCredential{Salt: []byte("salt"), StoredKey: []byte("stored"), ServerKey: []byte("server"), Iterations: 4096 + a.int("more")}
		}
		c.Remove = scramUsers(a["remove"])
		return c
	case "cluster":
		return &SetClusterID{ID: a["id"]}
	}
	t.Fatalf("unknown verb %q", verb)
	return nil
}

// registrations reads 1@3,2@4: node and epoch.
func registrations(s string) (list []ISRMember) {
	for _, f := range strings.Split(s, ",") {
		id, epoch, _ := strings.Cut(f, "@")
		list = append(list, ISRMember{ID: NodeID(lineArgs{"n": id}.int("n")), Epoch: int64(lineArgs{"n": epoch}.int("n"))})
	}
	return list
}

// partitionIDs reads a:0,b:1.
func partitionIDs(s string) (list []PartitionID) {
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) {
		topic, n, _ := strings.Cut(f, ":")
		list = append(list, PartitionID{testID(topic), int32(lineArgs{"n": n}.int("n"))})
	}
	return list
}

// endpoints reads EXTERNAL:host:9094.
func endpoints(s string) (list []Endpoint) {
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == '+' }) {
		p := strings.Split(f, ":")
		list = append(list, Endpoint{Listener: p[0], Host: p[1], Port: int32(lineArgs{"n": p[2]}.int("n"))})
	}
	return list
}

// acls reads User:a/orders: one that allows to read a topic of that name.
func acls(s string) (list []ACL) {
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == '+' }) {
		who, topic, _ := strings.Cut(f, "/")
		list = append(list, ACL{Resource: 2, Pattern: 3, Name: topic, Principal: who, Host: "*", Operation: 3, Permission: 3})
	}
	return list
}

func scramUsers(s string) (list []ScramUser) {
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == '+' }) {
		name, typ, _ := strings.Cut(f, "/")
		list = append(list, ScramUser{name, int8(lineArgs{"n": typ}.int("n"))})
	}
	return list
}

func show(i *Image) string {
	var b strings.Builder
	fmt.Fprintf(&b, "index %d cluster %q next-producer %d features %v deleted %d\n", i.Index, i.ClusterID, i.NextProducerID, i.Features, len(i.Deleted))
	for _, n := range sortedValues(i.Nodes) {
		fmt.Fprintf(&b, "node %d epoch %d %s:%d rack %q boot %q", n.ID, n.Epoch, n.Host, n.Port, n.Rack, n.BootID)
		if n.MinISR > 0 {
			fmt.Fprintf(&b, " min %d", n.MinISR)
		}
		if n.Fenced {
			b.WriteString(" fenced")
		}
		for _, e := range n.Endpoints {
			fmt.Fprintf(&b, " %s %s:%d", e.Listener, e.Host, e.Port)
		}
		b.WriteString("\n")
	}
	for _, t := range sortedValues(i.Topics) {
		fmt.Fprintf(&b, "topic %s internal %v configs %v\n", t.Name, t.Internal, i.TopicConfigs[t.Name])
		if i.TopicIDs[t.ID] != t {
			fmt.Fprintf(&b, "  NOT FOUND BY ID\n")
		}
		for _, p := range t.Partitions {
			fmt.Fprintf(&b, "  %d replicas %v isr %v leader %d epoch %d/%d", p.Number, p.Replicas, p.ISR, p.Leader, p.LeaderEpoch, p.PartitionEpoch)
			if len(p.ELR)+len(p.LastKnownELR) > 0 {
				fmt.Fprintf(&b, " elr %v last %v", p.ELR, p.LastKnownELR)
			}
			if len(p.Offline) > 0 {
				fmt.Fprintf(&b, " offline %v", p.Offline)
			}
			if p.Reassigning() {
				fmt.Fprintf(&b, " adding %v removing %v", p.Adding, p.Removing)
			}
			b.WriteString("\n")
		}
	}
	if len(i.RemovedNodes) > 0 {
		fmt.Fprintf(&b, "removed nodes %v\n", i.RemovedNodes)
	}
	for _, name := range slices.Sorted(maps.Keys(i.BrokerConfigs)) {
		fmt.Fprintf(&b, "broker %q configs %v\n", name, i.BrokerConfigs[name])
	}
	for _, name := range slices.Sorted(maps.Keys(i.GroupConfigs)) {
		fmt.Fprintf(&b, "group %q configs %v\n", name, i.GroupConfigs[name])
	}
	for _, e := range i.Quotas.Entities() {
		fmt.Fprintf(&b, "quotas of user %v client %v ip %v: %v\n", e.User, e.ClientID, e.IP, i.Quotas.Of(e))
	}
	for _, a := range i.ACLs {
		fmt.Fprintf(&b, "acl %s %s, last change at %d\n", a.Principal, a.Name, i.ACLIndex)
	}
	for _, u := range slices.SortedFunc(maps.Keys(i.Scram), func(a, b ScramUser) int { return strings.Compare(a.Name, b.Name) }) {
		fmt.Fprintf(&b, "scram %s/%d %d iterations, prints as %v %#v\n", u.Name, u.Mechanism, i.Scram[u].Iterations, i.Scram[u], i.Scram[u])
	}
	return b.String()
}
