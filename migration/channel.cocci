// Pages that somebody waits for, on the source.
// SPDX-License-Identifier: GPL-2.0-or-later

//# rule nodelay places 1 -- without a preempt channel they come by this one: TCP must not keep them back until those before are acknowledged
@@
symbol ioc;
@@
 migration_channel_connect(...)
 {
 <...
 migration_ioc_register_yank(ioc);
+qio_channel_set_delay(ioc, false);
 ...>
 }
