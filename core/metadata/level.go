package metadata

import (
	"errors"
	"fmt"
)

// A cluster of nodes of several versions must agree on what they can all read: a node that meets a command that it does not know
// stops (ErrVersion). So whatever is new belongs to a level. A node registers with the highest level that it knows; the
// cluster's level is the least of its nodes', and rises by itself with the registration of the last one. It never falls. The
// leader of the quorum agrees to nothing above it (Image.Admits), and who knows less is not registered. As etcd's cluster version.
//
// How something new comes in: a new kind of command, or field of one, and a new ImageVersion get the next level, here and in
// kindLevels, or in a method level() of the command where only some contents need it. The last section of an Image is left out
// when the Image is of a lower level (imageVersions). A level is closed by a release.

// Level is the highest that this code knows. 0 are nodes from before there were levels.
const Level int16 = 1

// LevelFeature is where Image.Features has the cluster's level.
const LevelFeature = "forebay.metadata.version"

// ErrLevel is the answer for what not every node would understand, and for a node that does not understand all that is in use.
var ErrLevel = errors.New("not known to every node")

// kindLevels are the levels of the kinds of commands. Each kind has one.
var kindLevels = map[byte]int16{
	kindRegisterNode: 0, kindCreateTopics: 0, kindDeleteTopics: 0, kindCreatePartitions: 0, kindChangePartition: 0, kindAlterConfigs: 0,
	kindAllocateProducerIDs: 0, kindSetFeatures: 0, kindSetClusterID: 0, kindFenceNode: 0, kindAlterPartition: 0, kindAlterQuotas: 0,
	kindAlterACLs: 0, kindAlterScram: 0, kindAlterGroupConfigs: 0, kindSetOffline: 0, kindReassignPartitions: 0,
	kindUnregisterNode: 1, kindReadmitNode: 1,
}

// imageVersions are the versions that an Image of each level is written in. Nodes of level 0 are not run beside others (docs/operations.md).
var imageVersions = [Level + 1]uint64{ImageVersion, ImageVersion}

// Level is the cluster's.
func (i *Image) Level() int16 { return i.Features[LevelFeature] }

// Admits says whether every node understands a command, or gives an ErrLevel with the reason.
func (i *Image) Admits(c Command) error {
	need := kindLevels[c.kind()]
	if l, ok := c.(interface{ level() int16 }); ok {
		need = max(need, l.level())
	}
	// The first registration comes before there is a level, and needs none.
	if have := i.Level(); need > have {
		return fmt.Errorf("%w: this needs metadata level %d and the cluster is at %d%s", ErrLevel, need, have, i.behind(need))
	}
	return nil
}

// behind names the nodes that do not know a level yet.
func (i *Image) behind(level int16) (text string) {
	for _, n := range sortedValues(i.Nodes) {
		if n.Level < level {
			text += fmt.Sprintf("; node %d knows %d", n.ID, n.Level)
		}
	}
	if text != "" {
		text += ": start the newer version of forebay there"
	}
	return text
}

// raiseLevel is called when the nodes have changed.
func (i *Image) raiseLevel() {
	least := Level
	for _, n := range i.Nodes {
		least = min(least, n.Level)
	}
	if len(i.Nodes) == 0 || least <= i.Level() {
		return
	}
	features := map[string]int16{}
	for k, v := range i.Features {
		features[k] = v
	}
	features[LevelFeature] = least
	i.Features = features
}

// level is that which a SetFeatures names: registrations alone raise it.
func (c *SetFeatures) level() int16 { return c.Levels[LevelFeature] }
