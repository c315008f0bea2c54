//! `/auth`: accounts, logins, tokens.

use super::answer::Reply;
use super::call::{Call, Handled};
use super::fields::{Common, id, optional_text, parse, password as password_of};

pub(super) async fn register(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let password = password_of(body.password, "password")?;
    call.engine().register(&user_id, &password).await?;
    Ok(Reply::ok())
}

pub(super) async fn unregister(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let password = password_of(body.password, "password")?;
    call.engine().unregister(&user_id, call.by_password(&password)).await?;
    Ok(Reply::ok())
}

pub(super) async fn login(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let password = password_of(body.password, "password")?;
    let terminal = optional_text(body.terminal, "terminal")?;
    let token = call.engine().login(&user_id, call.by_password(&password), &terminal).await?;
    Ok(Reply::ok_text("token", &token))
}

pub(super) async fn password(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    let old = password_of(body.old_password, "oldPassword")?;
    let new = password_of(body.new_password, "newPassword")?;
    call.engine().change_password(&user_id, call.by_password(&old), &new).await?;
    Ok(Reply::ok())
}

pub(super) async fn logout(call: Call<'_>) -> Handled {
    let body: Common<'_> = parse(call.body)?;
    let user_id = id(body.user_id, "user_id")?;
    call.engine().logout(&user_id, call.token).await?;
    Ok(Reply::ok())
}
