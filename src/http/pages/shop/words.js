// All that the shop says, in both languages, and how money and times are written.

import { storage } from './dom.js';

const WORDS = {
  shop: ['书店', 'Bookshop'],
  skip: ['跳到正文', 'Skip to the page'],
  'nav.search': ['找书', 'Search'],
  'nav.basket': ['购物车', 'Basket'],
  'nav.orders': ['我的订单', 'My orders'],
  'nav.selling': ['我要卖书', 'Sell'],
  'nav.login': ['登录', 'Log in'],
  'nav.docs': ['接口文档', 'API'],
  'nav.about': ['主导航', 'Main'],
  'other.language': ['English', '中文'],
  close: ['关闭', 'Close'],
  refresh: ['刷新', 'Refresh'],
  cancel: ['取消', 'Cancel'],
  more: ['更多', 'More'],

  'home.title': ['找一本书', 'Find a book'],
  'home.about': [
    '这是书店接口的演示页：每一次操作都会调用公开的接口，页面下方的“接口请求”会一一列出。',
    'This shop shows what the bookstore’s API can do: each step is a public request, and “Requests” below the page lists them all.',
  ],
  'home.steps': ['怎么试用', 'How to try it'],
  'home.step.1': ['注册一个账户，开一家店，上架几本示例图书。', 'Register, open a store and list the sample books.'],
  'home.step.2': ['换一个账户（可以用另一个标签页）：搜索、加入购物车、下单、充值、付款。', 'As somebody else, in another tab if you like: search, fill the basket, order, add money, pay.'],
  'home.step.3': ['卖家发货，买家确认收货，平台把钱付给卖家。', 'The seller ships, the buyer confirms, and the platform pays the seller.'],
  'home.keyword': ['书名、作者、标签、ISBN', 'Title, author, tag, ISBN'],
  'home.search': ['搜索', 'Search'],
  'home.scope': ['范围', 'Where'],
  'home.store': ['只在这家店', 'Only in this store'],
  'home.store.hint': ['店铺 ID，可不填', 'store id, optional'],
  'home.try': ['试试：', 'Try: '],
  'home.found': ['找到 {total} 本', '{total} found'],
  'home.none': ['没有找到“{keyword}”。换一个词，或者到“我要卖书”里上架几本示例图书。', 'Nothing found for “{keyword}”. Try another word, or list some sample books under “Sell”.'],
  'home.empty': ['请先输入要找的词。', 'Please enter what to look for.'],
  'home.page': ['第 {page} 页，共 {pages} 页', 'Page {page} of {pages}'],
  'home.previous': ['上一页', 'Previous'],
  'home.next': ['下一页', 'Next'],
  'scope.all': ['全部', 'Everywhere'],
  'scope.title': ['书名', 'Title'],
  'scope.author': ['作者', 'Author'],
  'scope.publisher': ['出版社', 'Publisher'],
  'scope.isbn': ['ISBN', 'ISBN'],
  'scope.tags': ['标签', 'Tags'],
  'scope.book_intro': ['简介', 'Description'],
  'scope.content': ['目录与正文', 'Contents'],

  'book.stock': ['库存 {count} 本', '{count} in stock'],
  'book.out': ['暂时缺货', 'Out of stock'],
  'book.store': ['店铺 {store}', 'Store {store}'],
  'book.add': ['加入购物车', 'Add to basket'],
  'book.count': ['数量', 'Copies'],
  'book.added': ['《{title}》已加入购物车。', '“{title}” is in your basket.'],
  'book.delisted': ['这本书已经下架，不能再买。', 'This book is off the shelf and cannot be bought.'],
  'book.cover': ['《{title}》的图片', 'Picture of “{title}”'],
  'book.title': ['书名', 'Title'],
  'book.author': ['作者', 'Author'],
  'book.publisher': ['出版社', 'Publisher'],
  'book.translator': ['译者', 'Translator'],
  'book.original_title': ['原名', 'Original title'],
  'book.pub_year': ['出版时间', 'Published'],
  'book.pages': ['页数', 'Pages'],
  'book.binding': ['装帧', 'Binding'],
  'book.isbn': ['ISBN', 'ISBN'],
  'book.tags': ['标签', 'Tags'],
  'book.book_intro': ['简介', 'About the book'],
  'book.author_intro': ['作者简介', 'About the author'],
  'book.id': ['图书 ID', 'Id'],
  'book.picture': ['图片', 'Picture'],

  'basket.title': ['购物车', 'Basket'],
  'basket.empty': ['购物车还是空的。', 'Your basket is empty.'],
  'basket.per_store': ['一个订单只属于一家店，所以不同店铺的书要分开下单。', 'An order goes to one store, so books of two stores become two orders.'],
  'basket.sum': ['合计 {sum}', 'Total {sum}'],
  'basket.note': ['价格以下单时为准；下单后请核对金额再付款。', 'The price at the moment of the order counts; you see it before you pay.'],
  'basket.order': ['下单', 'Place the order'],
  'basket.remove': ['移除《{title}》', 'Remove {title}'],
  'basket.remove.short': ['移除', 'Remove'],
  'basket.count': ['《{title}》的数量', 'Copies of {title}'],
  'basket.placed': ['订单已提交，书已为您留好。', 'The order is placed, and the books are kept for you.'],

  'orders.title': ['我的订单', 'My orders'],
  'orders.none': ['还没有订单。', 'No orders yet.'],
  'orders.show': ['查看订单', 'Open the order'],
  'status.pending': ['待付款', 'To be paid'],
  'status.paid': ['已付款', 'Paid'],
  'status.shipped': ['已发货', 'Shipped'],
  'status.received': ['已收货', 'Received'],
  'status.completed': ['已完成', 'Completed'],
  'status.canceled': ['已取消', 'Canceled'],
  'order.title': ['订单 {id}', 'Order {id}'],
  'order.books': ['书目', 'Books'],
  'order.total': ['金额 {sum}', 'Total {sum}'],
  'order.deadline': ['请在 {time} 之前付款，逾期订单会自动取消。', 'Please pay before {time}; after that the order is canceled automatically.'],
  'order.confirm_deadline': ['如不操作，{time} 会自动确认收货。', 'Unless you do it, receipt is confirmed automatically at {time}.'],
  'order.pay': ['付款', 'Pay'],
  'order.pay.how': ['付给谁', 'Who gets the money'],
  'order.pay.platform': ['先由平台保管（推荐）', 'The platform keeps it (recommended)'],
  'order.pay.platform.about': ['您确认收货后，平台才把钱付给卖家；发货前退款，钱一定能退回。', 'The seller gets it when you confirm; a refund before shipping is certain.'],
  'order.pay.direct': ['直接付给卖家', 'Straight to the seller'],
  'order.pay.direct.about': ['卖家马上收到钱；能否退款要看卖家的余额够不够。', 'The seller has it at once; a refund depends on the seller’s balance.'],
  'order.paid': ['已付款。', 'Paid.'],
  'order.paid_to.platform': ['货款由平台保管', 'The platform keeps the money'],
  'order.paid_to.seller': ['货款已付给卖家', 'The seller has the money'],
  'order.cancel': ['取消订单', 'Cancel the order'],
  'order.canceled': ['订单已取消，书已放回货架。', 'The order is canceled, and the books are back on the shelf.'],
  'order.confirm': ['确认收货', 'I have received it'],
  'order.confirmed': ['已确认收货，订单完成。', 'Receipt confirmed; the order is complete.'],
  'order.confirm.early': ['卖家还没有发货。真的已经收到了吗？确认后不能退款。', 'The seller has not shipped yet. Do you really have it? There is no refund after this.'],
  'order.refund': ['退款', 'Get a refund'],
  'order.refunded': ['已退款，订单取消。', 'Refunded; the order is canceled.'],
  'order.extend': ['延长收货期', 'I need more time'],
  'order.extended': ['收货期已延长。', 'You have more time.'],
  'order.way': ['订单记录', 'What happened'],
  'order.funds': ['去充值', 'Add money'],
  'way.placed': ['下单', 'Placed'],
  'way.paid': ['付款', 'Paid'],
  'way.shipped': ['发货', 'Shipped'],
  'way.extended': ['延长收货', 'More time'],
  'way.confirmed': ['确认收货', 'Confirmed'],
  'way.canceled': ['取消', 'Canceled'],
  'by.buyer': ['买家', 'by the buyer'],
  'by.seller': ['卖家', 'by the seller'],
  'by.deadline': ['到期自动', 'automatically'],

  'account.title': ['账户 {user}', 'Account {user}'],
  'account.balance': ['余额', 'Balance'],
  'account.put': ['充值', 'Add money'],
  'account.take': ['提现', 'Withdraw'],
  'account.amount': ['金额（元）', 'Amount (yuan)'],
  'account.put.done': ['已充值 {sum}。', '{sum} added.'],
  'account.take.done': ['已提现 {sum}。', '{sum} withdrawn.'],
  'account.password': ['修改密码', 'Change the password'],
  'account.password.old': ['原密码', 'Old password'],
  'account.password.new': ['新密码', 'New password'],
  'account.password.done': ['密码已修改。', 'The password is changed.'],
  'account.logout': ['退出登录', 'Log out'],
  'account.logout.done': ['已退出登录。', 'You are logged out.'],
  'account.play': ['这里的钱是演示用的：充多少有多少。', 'This is play money: you get as much as you add.'],

  'login.title': ['登录或注册', 'Log in or register'],
  'login.user': ['用户名', 'User name'],
  'login.password': ['密码', 'Password'],
  'login.login': ['登录', 'Log in'],
  'login.register': ['注册新账户', 'Register'],
  'login.first': ['请先登录。', 'Please log in first.'],
  'login.welcome': ['欢迎，{user}！', 'Welcome, {user}!'],
  'login.about': [
    '页面只在内存里记住密码，刷新后需要时会再问一次；令牌会保留到本标签页关闭。',
    'The page keeps the password in memory only and asks again after a reload; the token stays until this tab is closed.',
  ],
  'login.wrong': ['用户名或密码不对。', 'The user name or the password is wrong.'],
  'ask.title': ['请输入 {user} 的密码', 'The password of {user}, please'],
  'ask.about': ['这一步需要密码；页面刷新后不会再记得它。', 'This step needs it, and the page does not keep it over a reload.'],
  'ask.wrong': ['密码不对，请再输一次。', 'That password is wrong. Please enter it again.'],
  'ask.stopped': ['没有密码就看不到这一页。', 'This page cannot be shown without the password.'],
  'ask.again': ['再试一次', 'Try again'],
  'ask.go': ['继续', 'Go on'],

  'selling.title': ['我的店铺', 'My stores'],
  'selling.none': ['您还没有店铺。起一个店铺 ID 就能开店；它全站唯一，之后不能更改。', 'You have no store yet. Choose an id for one; no other store can have the same, and it cannot be changed.'],
  'selling.open': ['开店', 'Open a store'],
  'selling.store': ['店铺 ID', 'Store id'],
  'selling.opened': ['店铺 {store} 开张了。', 'The store {store} is open.'],
  'selling.orders': ['{count} 个订单，{ship} 个待发货', 'Orders: {count}, to be shipped: {ship}'],
  'store.title': ['店铺 {store}', 'Store {store}'],
  'store.orders': ['订单（待发货的在前）', 'Orders, those to ship first'],
  'store.orders.none': ['还没有订单。', 'No orders yet.'],
  'store.buyer': ['买家 {user}', 'Buyer {user}'],
  'store.ship': ['发货', 'Ship'],
  'store.shipped': ['已发货。', 'Shipped.'],
  'store.list': ['上架新书', 'List a book'],
  'store.list.go': ['上架', 'List it'],
  'store.listed': ['《{title}》已上架。', '“{title}” is on the shelf.'],
  'store.price': ['价格（元）', 'Price (yuan)'],
  'store.stock': ['库存', 'Copies'],
  'store.id.hint': ['不填就用 ISBN；ISBN 也没有就随机生成', 'if empty: the ISBN, or a random one'],
  'store.tags.hint': ['用逗号或空格分开', 'separated by commas or blanks'],
  'store.samples': ['上架 {count} 种示例图书', 'List {count} sample books'],
  'store.samples.about': ['真实的书，每种十本，方便试用。', 'Real books, ten copies each, to play with.'],
  'store.samples.done': ['示例图书已上架：新增 {added} 种，原有 {had} 种。', 'Sample books listed: {added} new, {had} were there.'],
  'store.books': ['管理图书', 'Manage books'],
  'store.books.about': ['在本店搜索，或者直接输入图书 ID。下架的书只能按 ID 找到。', 'Search in this store, or enter an id. A book off the shelf is found by its id only.'],
  'store.books.find': ['书名或图书 ID', 'Title or id'],
  'store.books.go': ['查找', 'Find'],
  'store.books.none': ['本店没有这样的书。', 'There is no such book in this store.'],
  'store.price.set': ['改价', 'Set the price'],
  'store.price.done': ['价格改为 {sum}，已下的订单不变。', 'The price is {sum} now; placed orders keep theirs.'],
  'store.stock.change': ['增减库存', 'Add or take copies'],
  'store.stock.by': ['数量（可为负）', 'How many (may be negative)'],
  'store.stock.done': ['库存已更新。', 'The stock is changed.'],
  'store.delist': ['下架', 'Take off the shelf'],
  'store.relist': ['重新上架', 'Put back'],
  'store.delisted': ['已下架。', 'It is off the shelf.'],
  'store.relisted': ['已重新上架。', 'It is on the shelf again.'],
  'store.off': ['已下架', 'off the shelf'],

  'field.money': ['请输入金额，例如 38.80，最多两位小数。', 'Please enter an amount such as 38.80, with at most two decimals.'],
  'field.positive': ['金额要大于零。', 'The amount must be more than zero.'],
  'field.count': ['请输入整数。', 'Please enter a whole number.'],
  'field.picture': ['请选一张图片（JPEG、PNG、GIF 或 WebP）。', 'Please choose a picture (JPEG, PNG, GIF or WebP).'],

  'calls.title': ['接口请求', 'Requests'],
  'calls.none': ['还没有请求。', 'No requests yet.'],
  'calls.sent': ['发送', 'Sent'],
  'calls.answered': ['应答', 'Answered'],
  'calls.about': ['这个接口的文档', 'What this route does'],
  'calls.waiting': ['等待应答', 'waiting'],
  'calls.lost': ['没有应答', 'no answer'],
  'calls.ms': ['{ms} 毫秒', '{ms} ms'],

  'error.server': ['服务端返回：', 'The service says: '],
  'error.wait': ['请在 {seconds} 秒后再试。', 'Please try again in {seconds} s.'],
  'error.busy': ['书店有点忙，{seconds} 秒后自动再试…', 'The shop is busy; trying again in {seconds} s …'],
  'error.lost': ['连不上书店，请检查网络后再试。重试是安全的，不会重复下单或付款。', 'The shop cannot be reached. Please try again: nothing is bought or paid twice.'],
  'error.lost.unsure': [
    '没有收到应答，刚才的更改可能已经生效：请先刷新看看，再决定要不要重试。',
    'No answer came, and the change may have been made: please look first, by “Refresh” or anew, before you try again.',
  ],
  'error.script': ['页面出错了：', 'This page has failed: '],
  'error.page': ['没有这一页。', 'There is no such page.'],
  'error.other': ['没有成功（{code}）。', 'That did not work ({code}).'],
  'code.400': ['这个订单已经结清。', 'The order is settled already.'],
  'code.401': ['没有权限：登录已过期、密码不对，或者它不属于您。', 'Not allowed: the login has expired, the password is wrong, or it is not yours.'],
  'code.408': ['请求太慢，超时了。', 'The request took too long.'],
  'code.413': ['内容太大。', 'That is too large.'],
  'code.422': ['同一个操作已用别的内容提交过，请刷新页面。', 'The same step was sent with other values. Please reload the page.'],
  'code.429': ['太频繁了，请稍等。', 'Too many tries. Please wait a little.'],
  'code.503': ['书店现在太忙或正在停机。', 'The shop is overloaded or closing.'],
  'code.503.unknown': ['无法确定是否成功：请先看看订单和余额；再试一次也是安全的。', 'It is not known whether that was done. Look at your orders and balance first; trying again is safe.'],
  'code.511': ['没有这个用户。', 'There is no such user.'],
  'code.512': ['这个用户名已经有人用了。', 'This user name is taken.'],
  'code.513': ['没有这家店。', 'There is no such store.'],
  'code.514': ['这个店铺 ID 已经有人用了。', 'This store id is taken.'],
  'code.515': ['店里没有这本书，或者已经下架。', 'The store does not have this book, or it is off the shelf.'],
  'code.516': ['店里已有这个 ID 的书。', 'The store has a book with this id already.'],
  'code.517': ['库存不够了。', 'There are not enough copies left.'],
  'code.518': ['没有这个订单。', 'There is no such order.'],
  'code.519': ['余额不足。', 'There is not enough money for this.'],
  'code.520': ['订单还没有付款，或者已经取消。', 'The order is not paid, or it is canceled.'],
  'code.521': ['订单已经不能取消。', 'The order cannot be canceled any more.'],
  'code.522': ['这不是您的店铺。', 'This store is not yours.'],
  'code.523': ['没有找到。', 'Nothing found.'],
  'code.524': ['没有这家店。', 'There is no such store.'],
  'code.525': ['店里没有找到。', 'Nothing found in this store.'],
  'code.526': ['订单已经取消。', 'The order is canceled.'],
  'code.527': ['订单已经付过款。', 'The order is paid already.'],
  'code.528': ['订单已经确认过了。', 'The order is confirmed already.'],
  'code.529': ['订单已经发货。', 'The order is shipped already.'],
  'code.530': ['内容不合要求。', 'Something in it is not as it must be.'],
};

const KEPT = 'shop.language';
const browser = storage('localStorage');
const LANGUAGES = ['zh', 'en'];

const first = () => LANGUAGES.find((one) => one === browser.get(KEPT)) ?? (navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en');
let language = first();

/// The other of the two languages from now on.
export function switchLanguage() {
  language = language === 'zh' ? 'en' : 'zh';
  browser.set(KEPT, language);
}

/// For `lang` and for dates.
export const locale = () => (language === 'zh' ? 'zh-CN' : 'en');

export const otherLocale = () => (language === 'zh' ? 'en' : 'zh-CN');

/// Whether there are words for this.
export const has = (name) => name in WORDS;

/// The words of this name, with `{values}` put in.
export function t(name, values = {}) {
  const words = WORDS[name][LANGUAGES.indexOf(language)];
  return words.replace(/\{(\w+)\}/g, (all, value) => values[value] ?? all);
}

/// Fen (a number, digits or a BigInt) as yuan with both decimals.
export function money(fen) {
  const value = BigInt(fen);
  const size = value < 0n ? -value : value;
  const yuan = (size / 100n).toString().replace(/\B(?=(\d{3})+$)/g, ',');
  return `${value < 0n ? '−' : ''}¥${yuan}.${(size % 100n).toString().padStart(2, '0')}`;
}

/// What a person wrote as yuan, in fen; null if it is no amount. Full-width digits are digits; a comma stands before three of them
/// only, for elsewhere it is somebody's decimal point.
export function fenOf(text) {
  const match = /^¥? *([0-9]{1,13}|[0-9]{1,3}(?:,[0-9]{3}){1,4})(?:\.([0-9]{1,2}))? *元?$/.exec(text.normalize('NFKC').trim());
  return match && Number(match[1].replaceAll(',', '')) * 100 + Number((match[2] ?? '').padEnd(2, '0'));
}

/// A whole number, or null.
export function countOf(text) {
  const plain = text.normalize('NFKC').trim().replace('−', '-');
  return /^-?[0-9]{1,15}$/.test(plain) ? Number(plain) : null;
}

/// The language of a text of somebody else's, where it shows; null where it does not.
export const languageOf = (text) => (/\p{Script=Han}/u.test(text) ? 'zh-CN' : null);

export const time = (text) => new Date(text).toLocaleString(locale(), { dateStyle: 'medium', timeStyle: 'medium' });
