resource "google_firestore_database" "ledger" {
  project                           = var.project_id
  name                              = var.ledger_database
  location_id                       = coalesce(var.ledger_location, var.region)
  type                              = "FIRESTORE_NATIVE"
  concurrency_mode                  = "OPTIMISTIC" # for those who look in with other tools; each transaction of the ledger says so itself
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.keep_ledger ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.keep_ledger ? "ABANDON" : "DELETE"

  depends_on = [time_sleep.apis]
}

# Deletion lags behind expire_at by up to a day, so nothing relies on it.
resource "google_firestore_field" "expire_at" {
  for_each = toset(["acts", "approvals", "claims", "intents", "places", "repeats", "samples"])

  project    = var.project_id
  database   = google_firestore_database.ledger.name
  collection = each.key
  field      = "expire_at"

  ttl_config {}
  index_config {}
}

# Nothing is queried by one field: an index of it would cost a write each, and those of times and of data, which begins
# with an id, would make every write of a fleet hit one ever-growing end (500 writes a second at most).
# This is the default of the whole database: projects/P/databases/D/collectionGroups/__default__/fields/*.
resource "google_firestore_field" "not_indexed" {
  project    = var.project_id
  database   = google_firestore_database.ledger.name
  collection = "__default__"
  field      = "*"

  index_config {}
}

# The work lists: documents of one queue, earliest first. The queue's name has a suffix, so that there are many ranges.
resource "google_firestore_index" "due" {
  for_each = toset(["acts", "approvals", "intents", "repeats", "subjects"])

  project    = var.project_id
  database   = google_firestore_database.ledger.name
  collection = each.key

  fields {
    field_path = "queue"
    order      = "ASCENDING"
  }
  fields {
    field_path = "due"
    order      = "ASCENDING"
  }
}
