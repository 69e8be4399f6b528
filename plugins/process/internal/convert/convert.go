// Package convert turns what the contract says into the protocol's messages, and back.
package convert

import (
	"github.com/forebayhub/forebay/connectors"
	pb "github.com/forebayhub/forebay/plugins/process/proto"
)

// Partition and its siblings make messages; those that end in From read them.
func Partition(tp connectors.TopicPartition) *pb.Partition {
	return &pb.Partition{Topic: tp.Topic, Partition: tp.Partition}
}

func PartitionFrom(p *pb.Partition) connectors.TopicPartition {
	return connectors.TopicPartition{Topic: p.GetTopic(), Partition: p.GetPartition()}
}

func Partitions(tps []connectors.TopicPartition) *pb.Partitions {
	out := &pb.Partitions{}
	for _, tp := range tps {
		out.Partitions = append(out.Partitions, Partition(tp))
	}
	return out
}

func PartitionsFrom(p *pb.Partitions) (out []connectors.TopicPartition) {
	for _, tp := range p.GetPartitions() {
		out = append(out, PartitionFrom(tp))
	}
	return out
}

func Assignment(a connectors.Assignment) *pb.Assignment {
	return &pb.Assignment{Partition: Partition(a.TopicPartition), TopicId: a.TopicID[:], Start: a.StartOffset, End: a.EndOffset, First: a.First()}
}

func AssignmentFrom(a *pb.Assignment) connectors.Assignment {
	out := connectors.Assignment{TopicPartition: PartitionFrom(a.GetPartition()), StartOffset: a.GetStart(), Begin: a.GetFirst(), EndOffset: a.GetEnd()}
	copy(out.TopicID[:], a.GetTopicId())
	return out
}

func Positions(positions map[connectors.PositionKey]connectors.Position) *pb.Positions {
	out := &pb.Positions{}
	for key, p := range positions {
		out.Positions = append(out.Positions, &pb.Position{Key: []byte(key), Position: p})
	}
	return out
}

func PositionsFrom(p *pb.Positions) map[connectors.PositionKey]connectors.Position {
	out := map[connectors.PositionKey]connectors.Position{}
	for _, p := range p.GetPositions() {
		out[connectors.PositionKey(p.GetKey())] = p.GetPosition()
	}
	return out
}
