// SPDX-License-Identifier: GPL-2.0
/*
 * Which mutant of the woven rust_dmirror is active, and which were reached. A module of its own, so
 * that both outlive the woven one:
 *
 *   /sys/module/dmirror_mutant/parameters/active   the number of a mutant, 0 for none
 *   /sys/kernel/debug/dmirror_mutant_reached       a byte for each number, 1 if it was reached; a
 *                                                  write of anything clears all
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>

#define MOST 8192

unsigned int dmirror_mutant_active;
EXPORT_SYMBOL_GPL(dmirror_mutant_active);
module_param_named(active, dmirror_mutant_active, uint, 0644);
MODULE_PARM_DESC(active, "Number of the active mutant, 0 for none");

u8 dmirror_mutant_reached[MOST];
EXPORT_SYMBOL_GPL(dmirror_mutant_reached);

static ssize_t reached_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	return simple_read_from_buffer(to, count, pos, dmirror_mutant_reached, MOST);
}

static ssize_t reached_write(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	memset(dmirror_mutant_reached, 0, MOST);
	return count;
}

static const struct file_operations reached_fops = {
	.owner = THIS_MODULE,
	.read = reached_read,
	.write = reached_write,
};

static struct dentry *reached_file;

static int __init dmirror_mutant_init(void)
{
	reached_file = debugfs_create_file("dmirror_mutant_reached", 0600, NULL, NULL, &reached_fops);
	return PTR_ERR_OR_ZERO(reached_file);
}

static void __exit dmirror_mutant_exit(void)
{
	debugfs_remove(reached_file);
}

module_init(dmirror_mutant_init);
module_exit(dmirror_mutant_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Switches mutants of rust_dmirror");
