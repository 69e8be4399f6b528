package server

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
	"github.com/forebayhub/forebay/core/replica"
	"github.com/forebayhub/forebay/core/wire"
)

// DescribeLogDirs (key 35), versions 1–5. v4 sizes of the disk (KIP-827). A directory that is offline has KAFKA_STORAGE_ERROR and tells nothing.
// What is damaged is told in a tagged field of ours (wire.DamagedTag).

func (s *Server) describeLogDirs(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeLogDirsRequest)
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	img := s.d.Controller.Image()
	dirs := map[*replica.Dir]*kmsg.DescribeLogDirsResponseDir{}
	for _, d := range s.d.Replicas.Dirs() {
		dir := kmsg.NewDescribeLogDirsResponseDir()
		dir.Dir, dir.TotalBytes, dir.UsableBytes = d.Name, -1, -1
		if d.Failed() != nil {
			dir.ErrorCode = kerr.KafkaStorageError.Code
		} else if free, total, err := s.d.FS.Usage(d.Path); err == nil {
			dir.TotalBytes, dir.UsableBytes = int64(total), int64(free)
		}
		dirs[d] = &dir
	}
	if req.Topics == nil {
		for _, name := range slices.Sorted(maps.Keys(img.Topics)) {
			s.locateTopic(dirs, img.Topics[name], nil)
		}
	}
	asked := map[string]wire.Seen[int32]{}
	for _, t := range req.Topics {
		if asked[t.Topic] == nil {
			asked[t.Topic] = wire.Seen[int32]{}
		}
		for _, n := range t.Partitions {
			asked[t.Topic].First(n)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		if known := img.Topics[name]; known != nil {
			s.locateTopic(dirs, known, asked[name])
		}
	}
	for _, d := range s.d.Replicas.Dirs() {
		resp.Dirs = append(resp.Dirs, *dirs[d])
	}
	if damaged := s.d.Replicas.Damaged(); len(damaged) > 0 {
		said := make(map[string]string, len(damaged))
		for name, err := range damaged {
			said[name] = err.Error()
		}
		b, err := json.Marshal(said)
		if err == nil {
			resp.UnknownTags.Set(wire.DamagedTag, b)
		}
	}
	return resp
}

// locateTopic adds the partitions of t that this node hosts to the directories that they lie in; nil numbers are all.
func (s *Server) locateTopic(dirs map[*replica.Dir]*kmsg.DescribeLogDirsResponseDir, t *metadata.Topic, numbers wire.Seen[int32]) {
	for _, p := range t.Partitions {
		if _, asked := numbers[p.Number]; numbers != nil && !asked || !slices.Contains(p.Replicas, s.d.NodeID) {
			continue
		}
		d, hosted, err := s.d.Replicas.Located(t.Name, p.Number)
		dir := dirs[d]
		switch {
		case dir == nil || dir.ErrorCode != 0:
			continue
		case err != nil:
			s.unexpected("cannot open partition", err, "topic", t.Name, "partition", p.Number)
			continue
		}
		part := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		part.Partition, part.Size = p.Number, hosted.Log().Size()
		if n := len(dir.Topics); n == 0 || dir.Topics[n-1].Topic != t.Name {
			out := kmsg.NewDescribeLogDirsResponseDirTopic()
			out.Topic = t.Name
			dir.Topics = append(dir.Topics, out)
		}
		out := &dir.Topics[len(dir.Topics)-1]
		out.Partitions = append(out.Partitions, part)
	}
}
