package mongodriver

import (
	"testing"
	"time"
)

func TestTheURLDecides(t *testing.T) {
	o := Options("mongodb://127.0.0.1:1/", "a")
	if *o.ServerSelectionTimeout != selection || *o.HeartbeatInterval != heartbeat || *o.AppName != "a" {
		t.Errorf("%v %v %v", *o.ServerSelectionTimeout, *o.HeartbeatInterval, *o.AppName)
	}
	o = Options("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=7000&heartbeatFrequencyMS=700", "a")
	if *o.ServerSelectionTimeout != 7*time.Second || *o.HeartbeatInterval != 700*time.Millisecond {
		t.Errorf("%v %v", *o.ServerSelectionTimeout, *o.HeartbeatInterval)
	}
}
