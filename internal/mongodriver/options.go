// Package mongodriver knows what our clients of MongoDB set, and why.
package mongodriver

import (
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

const (
	// selection is how long an operation waits for a server: a connector that is told sooner tries again itself.
	selection = 10 * time.Second
	// heartbeat is how often at least a server says what it is. The driver (2.10) can miss the one message that tells
	// of the server while an operation begins to wait for it: Topology.Subscribe reads the description before it is on
	// the list of those who hear of changes. The operation then waits for the next: with the driver's ten seconds that
	// is when the selection's time is over.
	heartbeat = 2 * time.Second
)

// Options are those of a client of url. What the URL says of times holds.
func Options(url, app string) *options.ClientOptions {
	o := options.Client().ApplyURI(url).SetAppName(app)
	if o.ServerSelectionTimeout == nil {
		o.SetServerSelectionTimeout(selection)
	}
	if o.HeartbeatInterval == nil {
		o.SetHeartbeatInterval(heartbeat)
	}
	return o
}
