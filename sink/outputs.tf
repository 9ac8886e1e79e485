output "topic" {
  description = "Full name of the topic that the sink writes to."
  value       = google_pubsub_topic.events.id
}

output "topic_name" {
  description = "Short name of that topic."
  value       = google_pubsub_topic.events.name
}

output "dead_letter_topic" {
  description = "Full name of the dead-letter topic."
  value       = google_pubsub_topic.dead_letter.id
}

output "dead_letter_topic_name" {
  description = "Short name of the dead-letter topic."
  value       = google_pubsub_topic.dead_letter.name
}

output "dead_letter_subscription" {
  description = "Name of the subscription that `logmend replay` reads dead letters from."
  value       = google_pubsub_subscription.dead_letter.name
}

output "writer_identities" {
  description = "Writer identity of each sink."
  value       = { for key, member in google_pubsub_topic_iam_member.writer : key => member.member }
}
