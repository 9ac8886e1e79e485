# Exactly what the function calls, group by group as in functions/logmend/permissions.py; a test compares the two.

locals {
  permissions_ledger = [
    "datastore.databases.get",
    "datastore.entities.create",
    "datastore.entities.delete",
    "datastore.entities.get",
    "datastore.entities.list",
    "datastore.entities.update",
  ]
  permissions_outcomes    = ["logging.logEntries.create"]
  permissions_dead_letter = ["pubsub.topics.publish"]
  permissions_lookup      = ["compute.instances.get", "compute.instances.list", "compute.projects.get"]
  permissions_groups      = ["compute.instanceGroupManagers.get"]
  permissions_ssh         = ["compute.instances.getGuestAttributes", "compute.instances.osLogin"]
  permissions_ssh_root    = ["compute.instances.osAdminLogin"]
  permissions_ssh_iap     = ["iap.tunnelInstances.accessViaIAP"]
  permissions_act_as      = ["iam.serviceAccounts.actAs"]
  permissions_osconfig = [
    "compute.instances.setLabels",
    "compute.zoneOperations.get",
    "osconfig.osPolicyAssignmentReports.get",
    "osconfig.osPolicyAssignmentReports.list",
    "osconfig.osPolicyAssignments.get",
  ]
  permissions_silence = ["logging.logEntries.list"]
  permissions_operator = concat(local.permissions_ledger, [
    "cloudfunctions.functions.list", # logmend use
    "logging.logEntries.list",
    "logging.logs.list",
    "pubsub.topics.get",
  ])

  permissions_fleet = distinct(concat(
    local.permissions_lookup,
    local.declared_permissions,
    local.changes ? local.permissions_groups : [],
    local.ssh ? local.permissions_ssh : [],
    local.ssh_root ? local.permissions_ssh_root : [],
    local.ssh && var.ssh_route == "iap" ? local.permissions_ssh_iap : [],
    local.osconfig ? local.permissions_osconfig : [],
    var.confirm_silence ? local.permissions_silence : [],
  ))

  # Nothing of a runbook's file can make the role wider than what the function calls at all.
  permissions_grantable = concat(
    local.permissions_lookup, local.permissions_groups, local.permissions_ssh, local.permissions_ssh_root, local.permissions_ssh_iap, local.permissions_osconfig
  )
}
