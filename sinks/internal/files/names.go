package files

import (
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"path"
	"strconv"
	"strings"
)

// Everything of ours that is not a finished file lies under hidden: Spark and
// Hive do not see folders whose name begins with an underscore.
//
//	_forebay/tmp/<topic id>-<partition>+<epoch>+<task>/… what a running task writes
//	_forebay/commits/<topic id>-<partition>/<start>/     manifest.json of each commit; done once its files are in place
//	_forebay/topics/<topic>/<topic id>/                  which ids a topic's name has had
const (
	hidden     = "_forebay"
	tmpDir     = hidden + "/tmp"
	commitsDir = hidden + "/commits"
	topicsDir  = hidden + "/topics"

	manifestFile = "manifest.json"
	doneFile     = "done"
)

// partitionID names a partition of one incarnation of a topic.
func partitionID(topicID [16]byte, partition int32) string {
	return hex.EncodeToString(topicID[:]) + "-" + strconv.Itoa(int(partition))
}

// tempDir is where one task keeps what it writes for one partition. The
// partition comes first, so that a task can tell its predecessors' leftovers
// from what tasks of other partitions are writing; the epoch, so that it can
// tell them from its successor's files when it was asleep meanwhile.
func tempDir(id string, epoch int64, task string) string {
	return fmt.Sprintf("%s/%s+%020d+%s", tmpDir, id, epoch, task)
}

// tempEpoch is the epoch in the name of a partition's temp folder, -1 without one; not ok: it is another partition's.
func tempEpoch(id, name string) (epoch int64, ok bool) {
	rest, ok := strings.CutPrefix(name, id+"+")
	if !ok {
		return 0, false
	}
	number, _, found := strings.Cut(rest, "+")
	if n, err := strconv.ParseInt(number, 10, 64); found && err == nil && len(number) == 20 {
		return n, true
	}
	return -1, true
}

// taskName makes a task id fit into a folder's name without making two alike.
func taskName(id string) string {
	safe := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '-'
	}, id)
	if safe == id && len(id) <= 100 {
		return id
	}
	return fmt.Sprintf("%.100s-%08x", safe, crc32.Checksum([]byte(id), castagnoli))
}

func commitDir(id string) string { return commitsDir + "/" + id }

// commitName is the name that two tasks which resume at one offset compete for.
func commitName(id string, start int64) string { return fmt.Sprintf("%s/%020d", commitDir(id), start) }

func parseCommitName(name string) (int64, bool) {
	if len(name) != 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(name, 10, 64)
	return n, err == nil && n >= 0
}

// maxFileName is how many bytes a file's name may have (Linux's NAME_MAX, HDFS's dfs.namenode.fs-limits.max-component-length), and farOffset the
// largest offset that names are made for: a million records a second for a hundred days.
const (
	maxFileName = 255
	farOffset   = 9_999_999_999_999
)

// finalName is where a data file ends up.
func finalName(topic, dir string, partition int32, first, last int64, ext string) string {
	return path.Join(topic, dir, fmt.Sprintf("%s+%d+%010d+%010d.%s", topic, partition, first, last, ext))
}

// dataFile is what a data file's name says.
type dataFile struct {
	name        string // relative to the target's root
	size        int64
	partition   int32
	first, last int64
}

// parseDataName reads the base name of a data file of topic.
func parseDataName(topic, base string) (dataFile, bool) {
	rest, ok := strings.CutPrefix(base, topic+"+")
	if !ok {
		return dataFile{}, false
	}
	parts := strings.SplitN(rest, "+", 3)
	if len(parts) != 3 {
		return dataFile{}, false
	}
	last, _, ok := strings.Cut(parts[2], ".")
	if !ok {
		return dataFile{}, false
	}
	p, err1 := strconv.ParseInt(parts[0], 10, 32)
	f, err2 := strconv.ParseInt(parts[1], 10, 64)
	l, err3 := strconv.ParseInt(last, 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || p < 0 || f < 0 || l < f {
		return dataFile{}, false
	}
	return dataFile{partition: int32(p), first: f, last: l}, true
}
