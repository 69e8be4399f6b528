package mongodb

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/forebayhub/forebay/internal/testenv"
)

// The role readWrite is enough, also to end what a predecessor has left open; with less, the error says what to grant.
func TestRights(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("c2VjcmV0c2VjcmV0"), 0o400); err != nil {
		t.Fatal(err)
	}
	m := testenv.NewMongo(t, 1, "--keyFile", key)
	// The first user is made without one (the manual's localhost exception).
	user := func(c *testenv.MongoServer, name, role, db string) {
		t.Helper()
		err := c.Client().Database("admin").RunCommand(t.Context(), bson.D{{Key: "createUser", Value: name}, {Key: "pwd", Value: "pw"},
			{Key: "roles", Value: bson.A{bson.D{{Key: "role", Value: role}, {Key: "db", Value: db}}}}}).Err()
		if err != nil {
			t.Fatal(err)
		}
	}
	as := func(name string) *testenv.MongoServer {
		c := *m
		c.URL = strings.Replace(m.URL, "mongodb://", "mongodb://"+name+":pw@", 1) + "&authSource=admin"
		return &c
	}
	user(m, "root", "root", "admin")
	root := as("root")
	user(root, "writer", "readWrite", m.Database)
	user(root, "reader", "read", m.Database)
	s := newSink(t, as("writer"), nil)
	if f := s.Validate(t.Context()); len(f) != 0 {
		t.Errorf("%+v", f)
	}
	zombie := start(t, s)
	zombie.write(upsert(1, "zombie", nil))
	b := zombie.prepare()[0].Data.(*batch)
	began := time.Now()
	var heir *life
	if _, err := zombie.task.transaction(t.Context(), b, b.next, func(context.Context) error { heir = start(t, s); return nil }); err == nil {
		t.Error("the zombie has committed")
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the heir has waited %v", took)
	}
	heir.write(upsert(1, "heir", nil))
	heir.flush()
	holds(t, root, "orders", first)

	_, err := tryStart(t, newSink(t, as("reader"), map[string]string{"offsets": "others"}), assigned(0), epochs.Add(1))
	fatalWith(t, err, "grantRolesToUser")
	nobody := newSink(t, as("nobody"), nil)
	if f := nobody.Validate(t.Context()); len(f) != 1 || f[0].Path != "url" || !strings.Contains(f[0].Hint, "authSource") {
		t.Errorf("%+v", f)
	}
}
